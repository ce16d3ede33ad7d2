"""The command line.

In: arguments. Out: text on stdout, and an exit status. Read `main` first; `texts` and `inspect`
have the texts of single commands.
"""
