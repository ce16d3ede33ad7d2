"""Models that run one step at a time. In: a model. Out: an encoder and a step, or a refusal.

Read `split` first; `step_axes` knows what each layer does to the axis of time.
"""
