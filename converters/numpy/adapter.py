"""numpy: the reference as a callable; there is nothing to save, since the reference is xlstm's."""

from xlstm.frameworks.adapter import Adapter

ADAPTER = Adapter(
    name="numpy",
    title="numpy",
    package="numpy",
    extra="",
    live_module="xlstm.converters.numpy.live",
)
