"""The second model of a diagnosis: reads it, runs it, and says what is plain to see.

In: a live object, a file or a function. Out: its outputs, its layers' outputs, and facts. Read
`models` first, then `runs`.
"""
