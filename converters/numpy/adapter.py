"""numpy: the reference as a callable. Nothing is saved: the reference is part of xlstm."""

from xlstm.frameworks.adapter import Adapter

ADAPTER = Adapter(
    name="numpy",
    title="numpy",
    package="numpy",
    extra="",
    live_module="xlstm.converters.numpy.live",
)
