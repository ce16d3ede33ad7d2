"""TensorFlow's operations in files of tf.keras 2.2 and 2.3, as calls of operations; no framework.

In: the config of a `TensorFlowOpLayer`, whose `node_def` is TensorFlow's own record of a node, and
the tensors that it is called on. Out: an operation's name and arguments, as later versions of Keras
write them. Nothing of a node is run. `tf.reshape(x, [-1, 20])` was written as

    {"node_def": {"op": "Reshape", "input": ["x", "shape"], ...}, "constants": {"1": [-1, 20]}}

and is `reshape(x, [-1, 20])`.
"""

from __future__ import annotations

import base64
import binascii
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from xlstm.budget import Budget
from xlstm.errors import FileError, UnsupportedError, kind_in_words
from xlstm.files.guards import parse_json

from ..context import LIMITS, Config, registered_name

KIND = "TensorFlowOpLayer"
"""Class of the layers that hold a node."""

ANEW = "save the model again"

MOST = 1024
"""Most inputs and attributes of one node."""

CALLS = 16
"""Most calls of one node: tf.keras made a layer for every call."""

LONGEST = 20_000
"""Most characters of a node that is a text."""


class Arguments(NamedTuple):
    """The arguments of a call, by place and by name."""

    by_place: tuple[Any, ...]
    by_name: Mapping[str, Any]


@dataclass(frozen=True)
class Form:
    """An operation of TensorFlow in today's terms.

    Attributes:
        name: today's name.
        inputs: the argument of each input; "" is the next by place, "*" a list of all that the
            others leave.
        attributes: attribute -> argument.
        fixed: attribute -> the only value that it may have.
        floats: True if integers give another result.
    """

    name: str
    inputs: tuple[str, ...] = ("", "", "")
    attributes: Mapping[str, str] = field(default_factory=dict)
    fixed: Mapping[str, Any] = field(default_factory=dict)
    floats: bool = False


AXIS = ("", "axis")
KEEP = {"keep_dims": "keepdims"}
SO_FAR = {"exclusive": "exclusive", "reverse": "reverse"}
TURNED = {"transpose_a": "transpose_a", "transpose_b": "transpose_b"}
FITTING = {"incompatible_shape_error": True}
MASKS = ("begin_mask", "end_mask", "ellipsis_mask", "new_axis_mask", "shrink_axis_mask")

ALIKE = (
    "Abs Ceil Cos Elu Exp Expm1 Floor Greater Identity Less Log Log1p Maximum Minimum Reciprocal "
    "Relu Relu6 Reshape Round Rsqrt Selu Sigmoid Sign Sin Softmax Softplus Softsign Sqrt Square "
    "Tanh Tile Transpose"
).split()
"""Operations whose inputs are the arguments in order, and whose names are today's."""

FORMS: dict[str, Form] = {
    **{op: Form(op.lower()) for op in ALIKE},
    **{op: Form(op.lower(), AXIS, KEEP) for op in ("All", "Any", "Max", "Min", "Prod", "Sum")},
    **{op: Form(op.lower(), AXIS) for op in ("ArgMax", "ArgMin")},
    **{op: Form(op.lower(), AXIS, SO_FAR) for op in ("Cumprod", "Cumsum")},
    "Add": Form("add"),
    "AddV2": Form("add"),
    "BatchMatMulV2": Form("matmul", attributes={"adj_x": "transpose_a", "adj_y": "transpose_b"}),
    "Cast": Form("cast", attributes={"DstT": "dtype"}, fixed={"Truncate": False}),
    "ConcatV2": Form("concatenate", ("*", "axis")),
    "Equal": Form("equal", fixed=FITTING),
    "ExpandDims": Form("expand_dims"),
    "GatherV2": Form("take", ("", "", "axis"), fixed={"batch_dims": 0}),
    "GreaterEqual": Form("greater_equal"),
    "LeakyRelu": Form("leaky_relu", attributes={"alpha": "alpha"}),
    "LessEqual": Form("less_equal"),
    "LogSoftmax": Form("log_softmax"),
    "LogicalAnd": Form("logical_and"),
    "LogicalNot": Form("logical_not"),
    "LogicalOr": Form("logical_or"),
    "MatMul": Form("matmul", attributes=TURNED),
    "Mean": Form("mean", AXIS, KEEP, floats=True),
    "MirrorPad": Form("pad", attributes={"mode": "mode"}),
    "Mul": Form("multiply"),
    "Neg": Form("negative"),
    "NotEqual": Form("not_equal", fixed=FITTING),
    "Pack": Form("stack", ("*",), {"axis": "axis"}),
    "Pad": Form("pad"),
    "PadV2": Form("pad", ("", "", "constant_values")),
    "Pow": Form("power"),
    "RealDiv": Form("divide"),
    "ReverseV2": Form("flip"),
    "Rint": Form("round"),
    "SelectV2": Form("where"),
    "Split": Form("split", ("axis", ""), {"num_split": "num_or_size_splits"}),
    "SplitV": Form("split", ("", "num_or_size_splits", "axis")),
    "Squeeze": Form("squeeze", attributes={"squeeze_dims": "axis"}),
    "StopGradient": Form("stop_gradient"),
    "StridedSlice": Form("get_item", ("",) * 4, {mask: mask for mask in MASKS}),
    "Sub": Form("subtract"),
    "Unpack": Form("unstack", attributes={"axis": "axis"}),
}
"""Operation of TensorFlow -> today's."""

HARMLESS = frozenset({"N", "num", "num_split", "grad_a", "grad_b", "grad_x", "grad_y"})
"""Attributes that repeat the inputs and outputs, and marks of products in gradients."""

DTYPES = {
    "DT_BOOL": "bool",
    "DT_DOUBLE": "float64",
    "DT_FLOAT": "float32",
    "DT_HALF": "float16",
    "DT_INT32": "int32",
    "DT_INT64": "int64",
}
"""TensorFlow's names of dtypes -> numpy's."""


def is_node(layer: Config) -> bool:
    """True if a layer's config contains a node of TensorFlow."""
    return layer.get("class_name") == KIND and not registered_name(layer)


def _broken(where: str, want: str, got: object) -> FileError:
    return FileError(where, want, str(got)[:80], ANEW)


def _node(layer: Config, where: str) -> Config:
    options = layer.get("config")
    node = options.get("node_def") if isinstance(options, Mapping) else None
    if isinstance(node, str) and node.lstrip().startswith("{") and len(node) <= LONGEST:
        node = parse_json(node, where, Budget())
    if not isinstance(node, Mapping):
        got = kind_in_words(node)
        raise _broken(where, "a node as TensorFlow 2.2 and 2.3 write it, or its JSON", got)
    return node


def _op(node: Config, where: str) -> str:
    op = node.get("op")
    if not isinstance(op, str) or not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,80}", op):
        raise _broken(where, "the name of an operation", op)
    return op


def operation_name(layer: Config) -> str:
    """Returns today's name of a node's operation; for unknown ones TensorFlow's name.

    Raises:
        FileError: no node in the config.
    """
    where = f"layer {str(layer.get('name'))[:80]}, node_def"
    op = _op(_node(layer, where), where)
    return FORMS[op].name if op in FORMS else f"{op} of TensorFlow"


@dataclass(frozen=True)
class NodeDef:
    """A node without its input tensors.

    Attributes:
        op: TensorFlow's name of the operation.
        form: the operation in today's terms.
        attributes: arguments that are attributes.
        constants: arguments that are constants, each with its place among the inputs, in order.
        count: the number of inputs.
        where: the node, for errors.
    """

    op: str
    form: Form
    attributes: Mapping[str, Any]
    constants: Sequence[tuple[int, Any]]
    count: int
    where: str


def decode_node(layer: Config, where: str) -> NodeDef:
    """Decodes the node of a layer, once for all its calls; `where` names the layer.

    Raises:
        UnsupportedError: an attribute or a dtype that today's operation lacks.
        FileError: a damaged node, or one with too many calls.
    """
    where = f"{where}, node_def"
    node = _node(layer, where)
    op = _op(node, where)
    form = FORMS.get(op)
    if form is None:
        raise UnsupportedError(where, "an operation that is known", op, LIMITS)
    calls = layer.get("inbound_nodes")
    if isinstance(calls, list) and len(calls) > CALLS:
        raise _broken(where, f"at most {CALLS} calls of one node", f"{len(calls):,}")
    constants = _constants(layer["config"].get("constants"), where)
    return NodeDef(op, form, _attributes(node, form, where), constants, _count(node, where), where)


def node_arguments(node: NodeDef, tensors: Sequence[Any]) -> Arguments:
    """Returns the arguments of a node's operation for its input tensors.

    Raises:
        FileError: too few or too many tensors, or a slice with indices that are no constants.
    """
    values = list(tensors)
    for place, value in node.constants:
        values.insert(place, value)
    if len(values) != node.count:
        want = f"{node.count} inputs, constants among them"
        raise _broken(node.where, want, len(values))
    if node.op == "StridedSlice":
        return Arguments((values[0], _index(values, node.attributes, node.where)), {})
    by_place, by_name = _placed(node.form, values, node.where)
    return Arguments(by_place, {**by_name, **node.attributes})


def _count(node: Config, where: str) -> int:
    """Returns the number of a node's inputs, without control inputs."""
    inputs = node.get("input", [])
    if not isinstance(inputs, list) or len(inputs) > MOST:
        raise _broken(where, f"a list of at most {MOST} inputs", kind_in_words(inputs))
    if not all(isinstance(name, str) for name in inputs):
        raise _broken(where, "inputs by their names", "others")
    return sum(not name.startswith("^") for name in inputs)


def _constants(found: Any, where: str) -> list[tuple[int, Any]]:
    """Returns the constants of a node, by their places among the inputs."""
    found = {} if found is None else found
    known = isinstance(found, Mapping) and len(found) <= MOST
    if not known or not all(re.fullmatch(r"\d{1,4}", str(key)) for key in found):
        raise _broken(where, "constants by the place of an input", kind_in_words(found))
    if any(value == [] for value in found.values()):
        raise UnsupportedError(where, "constants that are not empty", "one of no numbers", LIMITS)
    return sorted(((int(str(key)), value) for key, value in found.items()), key=lambda at: at[0])


def _placed(form: Form, values: list[Any], where: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Returns inputs by place and by name."""
    names = list(form.inputs)
    if names[0] == "*":
        split = len(values) - len(names) + 1
        values = [values[:split], *values[split:]]
        names[0] = ""
    if len(values) > len(names) or not values:
        raise _broken(where, f"1 to {len(names)} inputs of {form.name}", len(values))
    pairs = list(zip(names, values, strict=False))
    by_name = {name: value for name, value in pairs if name}
    return tuple(value for name, value in pairs if not name), by_name


def _attributes(node: Config, form: Form, where: str) -> dict[str, Any]:
    """Returns the attributes of a node that are arguments."""
    found = node.get("attr", {})
    if not isinstance(found, Mapping) or len(found) > MOST:
        raise _broken(where, f"at most {MOST} attributes by name", kind_in_words(found))
    attributes: dict[str, Any] = {}
    for name, value in found.items():
        if str(name).startswith("_") or name in HARMLESS - form.attributes.keys():
            continue
        place = f"{where}, {str(name)[:80]}"
        read = _attribute(value, place)
        if form.floats and name == "T" and not read.startswith("float"):
            raise UnsupportedError(place, f"{form.name} of a float dtype", read, LIMITS)
        if name in form.attributes:
            # an empty list means None: all axes of size 1
            attributes |= {} if read == [] else {form.attributes[name]: read}
        elif "type" not in value and (name not in form.fixed or read != form.fixed[name]):
            want = "attributes that are known"
            raise UnsupportedError(place, want, f"{read}"[:80], LIMITS)
    return attributes


def _attribute(value: Any, where: str) -> Any:
    """Decodes the value of an attribute, in the JSON of protocol buffers."""
    kinds = list(value) if isinstance(value, Mapping) else []
    if len(kinds) != 1 or kinds[0] not in READ:
        raise _broken(where, f"one of {', '.join(READ)}", ", ".join(map(str, kinds)) or "none")
    try:
        return READ[kinds[0]](value[kinds[0]])
    except (KeyError, TypeError, ValueError, OverflowError, binascii.Error) as error:
        raise _broken(where, f"a value of {kinds[0]}", f"{type(error).__name__}: {error}") from None


def _whole(value: Any) -> int:
    """Reads an integer of 64 bits, which protocol buffers write as a text."""
    if type(value) is str and re.fullmatch(r"-?\d{1,19}", value):
        value = int(value)
    if type(value) is not int or not -(2**63) <= value < 2**63:
        raise ValueError("no whole number of 64 bits")
    return value


def _number(value: Any) -> float:
    if type(value) not in (int, float) or not math.isfinite(value):
        raise ValueError("no finite number")
    return float(value)


def _truth(value: Any) -> bool:
    if type(value) is not bool:
        raise TypeError("neither true nor false")
    return value


def _text(value: Any) -> str:
    return base64.b64decode(value, validate=True).decode("ascii")


def _list(value: Any) -> list[int]:
    """Reads a list of integers; operations here have no other lists."""
    if not isinstance(value, Mapping) or not {*value} <= {"i"}:
        raise TypeError("no list of whole numbers")
    items = value.get("i", [])
    if not isinstance(items, list) or len(items) > MOST:
        raise TypeError("no list of whole numbers")
    return [_whole(item) for item in items]


READ: dict[str, Callable[[Any], Any]] = {
    "b": _truth,
    "f": _number,
    "i": _whole,
    "list": _list,
    "s": _text,
    "type": lambda value: DTYPES[value],
}
"""Field of an attribute -> the function that reads its value."""


def _index(values: list[Any], masks: Mapping[str, int], where: str) -> list[Any]:
    """Returns the items in brackets of a StridedSlice, as in Python."""
    known = len(values) == 4 and all(isinstance(value, list) for value in values[1:])
    known = known and len({len(value) for value in values[1:]}) == 1 and len(values[1]) < 64
    if not known or not all(type(n) is int for value in values[1:] for n in value):
        raise _broken(where, "begins, ends and strides of each axis, all constants", "others")
    first, last, dots, new, single = (masks.get(name, 0) for name in MASKS)
    items: list[Any] = []
    for n, (begin, end, step) in enumerate(zip(*values[1:], strict=True)):
        bit = 1 << n
        if dots & bit:
            items.append("...")
        elif new & bit:
            items.append(None)
        elif single & bit:
            if first & bit or step != 1:
                raise UnsupportedError(where, "one place of an axis", f"stride {step}", LIMITS)
            items.append(begin)
        else:
            start = None if first & bit or (begin == 0 and step == 1) else begin
            stop = None if last & bit else end
            items.append(slice(start, stop, None if step == 1 else step))
    return items
