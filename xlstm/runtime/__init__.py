"""Fast calls of ports. In: a live port. Out: a callable with little overhead.

Read `compile.py`; each framework's part is the function `compiled` of its adapter's live half.
"""
