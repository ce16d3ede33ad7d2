"""Functions that are copied as text into emitted tests of every framework.

In: nothing; these files are read as text. Out: parts of test_port.py.
"""
