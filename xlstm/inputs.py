"""Inputs that a comparison makes, under their public name: `xlstm.inputs.make_inputs`.

In: a model and a recipe. Out: one array for each input.
"""

from xlstm.verification.inputs import Recipe as Recipe
from xlstm.verification.inputs import make as make
from xlstm.verification.inputs import make_inputs as make_inputs

cooked = make_inputs
"""The name of `make_inputs` until now."""
