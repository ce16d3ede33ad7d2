"""The table of mistakes that a diagnosis can name: `table` lists the rows of all the others.

In: a layer, and what is known of the suspect. Out: hypotheses.
"""
