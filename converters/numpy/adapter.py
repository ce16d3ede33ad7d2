"""numpy: the reference as a callable. Nothing is saved: the reference is part of xlstm."""

from xlstm.frameworks.adapter import TRAINING, Adapter


def stacks() -> Adapter:
    """Returns the adapter of many models in one callable."""
    return ADAPTER


ADAPTER = Adapter(
    name="numpy",
    title="numpy",
    package="numpy",
    extra="",
    live_module="xlstm.converters.numpy.live",
    training=dict.fromkeys(TRAINING, False),
    stacks=stacks,
)
