"""Results as text for a terminal. In: reports, ledgers. Out: lines; `tables` first."""
