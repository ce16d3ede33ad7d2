"""The command line. In: arguments. Out: text on stdout, an exit status; `main` first."""
