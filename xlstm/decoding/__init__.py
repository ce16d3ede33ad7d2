"""Models that run one step at a time. In: a model. Out: an encoder and a step, or a refusal.

Read `split` first; `step_axes` has the effect of each layer on the axis of the time steps.
"""
