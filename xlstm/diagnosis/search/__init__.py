"""The search for a cause: finds the layer where two models part, and tries hypotheses there.

In: the state of a diagnosis. Out: findings. Read `bisect` first, then `search`.
"""
