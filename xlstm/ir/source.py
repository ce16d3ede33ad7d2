"""The source of a model: the file or object that was read, and the optimizer beside it.

A reader fills a `Source`; reports and ports show it.
"""

from __future__ import annotations

import math
import stat
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from xlstm.ir.layers.fields import AnyText, Like, check_fields
from xlstm.ir.types import Shape

Text = Annotated[str, AnyText()]

LONGEST = 60
"""Characters of an optimizer's name."""


@dataclass(frozen=True)
class Optimizer:
    """The variables of a compiled model's optimizer: not part of the model, and never ported.

    Attributes:
        kind: its class ("Adam"), "" if unknown.
        sizes: number of elements of each of its variables, in the source's order.
    """

    kind: Annotated[str, Like("the name of a class, or none", r"([^\W\d]\w*)?")]
    sizes: tuple[int, ...]

    def __post_init__(self) -> None:
        check_fields(self)

    @property
    def count(self) -> int:
        """Number of elements of all variables, as Keras's `summary()` counts optimizer params.

        >>> Optimizer("Adam", (1, 1, 6, 6, 2, 2)).count
        18
        """
        return sum(self.sizes)

    def formula(self, trainable: Iterable[int]) -> str:
        """The count as a multiple of the trainable parameters plus a rest; "" if it is no such sum.

        Args:
            trainable: sizes of the tensors that training changes.

        >>> Optimizer("Adam", (1, 1, 6, 6, 2, 2)).formula([6, 2])
        '2 x 8 trainable + 2'
        """
        wanted, left, times = Counter(trainable), Counter(self.sizes), 0
        total = sum(wanted.elements())
        while max(wanted, default=1) > 1 and wanted <= left:
            times, left = times + 1, left - wanted
        rest = left.total()
        if not times or rest != sum(left.elements()):  # only single numbers may be left
            return ""
        return f"{times} x {total:,} trainable" + (f" + {rest}" if rest else "")

    def line(self, formula: str = "") -> str:
        """The sentence about it in texts for people.

        >>> Optimizer("Adam", (1, 1, 6, 6, 2, 2)).line()
        'optimizer (Adam): 18 values, not part of the model, not ported'
        """
        kind = f" ({self.kind})" if self.kind else ""
        how = f" = {formula}" if formula else ""
        return f"optimizer{kind}: {self.count:,} values{how}, not part of the model, not ported"

    def to_json(self) -> dict[str, Any]:
        """Kind, count and number of variables as plain data."""
        return {"kind": self.kind, "count": self.count, "variables": len(self.sizes)}


def optimizer_of(kind: object, shapes: Iterable[Shape]) -> Optimizer | None:
    """An optimizer from its class and the shapes of its variables; None if it has none."""
    known = isinstance(kind, str) and kind.isidentifier() and len(kind) <= LONGEST
    sizes = tuple(math.prod(size or 0 for size in shape) for shape in shapes)
    return Optimizer(str(kind) if known else "", sizes) if sizes else None


class BatchAxis(NamedTuple):
    """The axis of an input or output that is the batch in the source, if it is not 0.

    Attributes:
        node: the input, or the layer of the output.
        output: its number among those of that node.
        axis: the place of the batch.
    """

    node: Text
    output: int
    axis: int


@dataclass(frozen=True)
class Source:
    """The source of a model, and the findings of its reader.

    Attributes:
        framework: "keras", "torch", "nnx" or "linen".
        version: version of the framework that wrote it, "" if unknown.
        container: type of the file or object ("HDF5 whole model", "live nn.LSTM", ...).
        file: name of the file without its folder, "" for a live object.
        sha256: of the file's bytes, "" for a live object.
        notes: rules applied and options that act only in training.
        warnings: for the user.
        optimizer: state that the source has for further training, None if it has none.
        input_axes: inputs whose batch is not the first axis there, as it is in every port.
        output_axes: outputs likewise.
        code_warning: for a ported folder whose `model.py` is not the code of its graph; "" for
            others. Ports do not store it.
    """

    framework: Annotated[str, Like("the name of a framework, or none", r"([A-Za-z][\w.-]*)?")]
    version: Text = ""
    container: Text = ""
    file: Text = ""
    sha256: Annotated[str, Like("64 hexadecimal digits, or none", "([0-9a-f]{64})?")] = ""
    notes: tuple[Text, ...] = ()
    warnings: tuple[Text, ...] = ()
    optimizer: Optimizer | None = None
    input_axes: tuple[BatchAxis, ...] = ()
    output_axes: tuple[BatchAxis, ...] = ()
    code_warning: Text = ""

    def __post_init__(self) -> None:
        check_fields(self)


NOT_READ = "members not read: "
"""Start of the note about parts of the file itself, which a port does not have."""

ROOM, FACTOR = 64 * 2**20, 16
"""Bytes of a source that are hashed without a request: ROOM, and FACTOR times those of the weights.

Optimizers keep up to three numbers for each weight, and some layers of a source are not ported.
"""

MOST_FILES = 1_000
"""Files and folders of a SavedModel or another source that is a folder."""


def followed(folder: Path, origin: str, weights: int) -> tuple[Path | None, str]:
    """The file that the report of a ported folder names as its source, or None and the reason.

    The report is not trusted. Only regular files, or folders of them, below the parent of the
    folder are read, and none so large that hashing them takes long.

    Args:
        folder: of the port.
        origin: the path in its report.
        weights: bytes of its weights.
    """
    try:
        here = folder.resolve(strict=True)
        path = (here / origin).resolve()
        if not path.is_relative_to(here.parent):
            return None, "it lies outside the folder's parent"
        size = _plain_size(path)
    except (OSError, ValueError, RuntimeError):  # a name that no file has, or links in a circle
        return None, "no such file"
    if size is None:
        return None, "no regular file, nor a folder of such alone"
    if size > ROOM + FACTOR * weights:
        return None, f"it has {size:,} bytes, too many for these weights"
    return path, ""


def _plain_size(path: Path) -> int | None:
    """Bytes of a file, or of all files of a folder; None if one of them is not a regular file.

    Raises:
        OSError: it cannot be read.
    """
    total, todo, left = 0, [path], MOST_FILES
    while todo:
        item, left = todo.pop(), left - 1
        found = item.lstat()
        if stat.S_ISDIR(found.st_mode) and left > 0:
            todo += item.iterdir()
        elif stat.S_ISREG(found.st_mode):
            total += found.st_size
        else:
            return None
    return total
