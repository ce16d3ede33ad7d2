"""Results as text for a terminal.

In: names, numbers and rows. Out: lines of limited width. Read `tables` first.
"""
