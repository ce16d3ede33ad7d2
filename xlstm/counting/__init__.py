"""Parameters of a model in every framework, and why the counts differ.

In: a model, a file, arrays. Out: a `Ledger` or an `Explanation`. Read `ledger` first, then
`explanation`.
"""
