"""Times ports beside what people would use instead; `benchmarks/bench.py` is the program.

`timing` takes times, `models` has the layers, `calls` what is timed. `contests` says which calls
run against each other and what their ratio should be, `floor` how fast this machine could be.
`tables` and `picture` write the output.
"""
