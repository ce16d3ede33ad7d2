"""Layer specs: all options that define a layer's function, checked on construction.

One module for each family of layers. Each lists its specs in `__all__`, and each spec adds itself
to SPECS. Read `base` first, then `recurrent`.
"""

from xlstm.ir.layers.attention import *  # noqa: F403
from xlstm.ir.layers.base import *  # noqa: F403
from xlstm.ir.layers.basic import *  # noqa: F403
from xlstm.ir.layers.convolution import *  # noqa: F403
from xlstm.ir.layers.custom import *  # noqa: F403
from xlstm.ir.layers.elementwise import *  # noqa: F403
from xlstm.ir.layers.merge import *  # noqa: F403
from xlstm.ir.layers.normalization import *  # noqa: F403
from xlstm.ir.layers.operations import *  # noqa: F403
from xlstm.ir.layers.pooling import *  # noqa: F403
from xlstm.ir.layers.recurrent import *  # noqa: F403
from xlstm.ir.layers.shape import *  # noqa: F403
