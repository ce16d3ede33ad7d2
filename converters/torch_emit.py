"""Writes a model as PyTorch source; imports no framework."""

from __future__ import annotations

from collections.abc import Callable

from xlstm.converters.source import (
    FOLDER,
    Call,
    Parts,
    call,
    collect,
    docstring,
    imports,
    join,
    origin,
    shape_comment,
    shape_text,
    signature,
    statement,
)

from xlstm.model import (
    LSTM,
    Activation,
    Dense,
    Dropout,
    Input,
    Model,
    Node,
    SimpleRNN,
    Spec,
    TimeDistributed,
)

CELLS = "torch_cells.py"

FUNCTIONAL = "from torch.nn import functional as F"

FUNCTIONS: dict[str, tuple[str, str]] = {
    "linear": ("linear", "linear"),
    "tanh": ("torch.tanh", ""),
    "sigmoid": ("torch.sigmoid", ""),
    "relu": ("torch.relu", ""),
    "softmax": ("softmax", "softmax"),
    "hard_sigmoid": ("F.hardsigmoid", ""),
    "hard_sigmoid_keras2": ("hard_sigmoid_keras2", "hard_sigmoid_keras2"),
}
"""Activation -> (expression, helper it needs)."""


def function(parts: Parts, activation: str) -> str:
    """Expression for an activation; what it needs is added to `parts`."""
    expression, helper = FUNCTIONS[activation]
    if helper:
        parts.need(CELLS, helper)
    if expression.startswith("F."):
        parts.imports.add(FUNCTIONAL)
    return expression


def native(spec: Spec) -> Call | None:
    """The native recurrent module that computes this layer, None where there is none."""
    bias = None if "bias" not in spec.absent() else ("bias", "False")
    tail = (bias, ("batch_first", "True"))
    match spec:
        case LSTM(activation="tanh", gate_activation="sigmoid"):
            return call("nn.LSTM", f"{spec.features}", f"{spec.units}", *tail)
        case SimpleRNN(activation="tanh"):
            return call("nn.RNN", f"{spec.features}", f"{spec.units}", *tail)
        case SimpleRNN(activation="relu"):
            relu = ("nonlinearity", '"relu"')
            return call("nn.RNN", f"{spec.features}", f"{spec.units}", relu, *tail)
        case _:
            return None


def bare(spec: Spec) -> bool:
    """Whether the native module alone returns what the layer returns."""
    if isinstance(spec, (LSTM, SimpleRNN)):
        return native(spec) is not None and spec.return_sequences
    return isinstance(spec, Dense) and spec.activation == "linear"


LACKS = {"LSTM": "nn.LSTM has tanh and sigmoid only", "RNN": "nn.RNN has tanh and relu only"}
"""Own cell -> why it is needed."""


def _own(spec: LSTM | SimpleRNN, parts: Parts) -> Call:
    """Our own cell for activations that the native module lacks."""
    name = "LSTM" if isinstance(spec, LSTM) else "RNN"
    activation = function(parts, spec.activation)
    gate = function(parts, spec.gate_activation) if isinstance(spec, LSTM) else "torch.sigmoid"
    parts.imports.add(FUNCTIONAL)
    parts.imports.add("from collections.abc import Callable")
    parts.need(CELLS, name)
    return call(
        name,
        f"{spec.features}",
        f"{spec.units}",
        None if spec.activation == "tanh" else ("activation", activation),
        None if gate == "torch.sigmoid" else ("gate", gate),
        None if spec.use_bias else ("bias", "False"),
    )


def _linear(spec: Spec) -> Call:
    sizes = spec.sizes()
    bias = ("bias", "False") if "bias" in spec.absent() else None
    return call("nn.Linear", f"{sizes['i']}", f"{sizes['o']}", bias)


def _emit_recurrent(spec: LSTM | SimpleRNN, parts: Parts, name: str) -> None:
    module = native(spec)
    if module is None:
        module = _own(spec, parts)
        parts.init.append(f"        # {LACKS[module.name]}")
    parts.init += statement(f"self.{name} = ", module, 8)
    parts.forward.append(f"        x, _ = self.{name}(x)")
    if not spec.return_sequences:
        parts.forward.append("        x = x[:, -1]")


def _emit_dense(spec: Dense, parts: Parts, name: str) -> None:
    parts.init += statement(f"self.{name} = ", _linear(spec), 8)
    value = f"self.{name}(x)"
    if spec.activation != "linear":
        value = f"{function(parts, spec.activation)}({value})"
    parts.forward.append(f"        x = {value}")


def _emit_time_distributed(spec: TimeDistributed, parts: Parts, name: str) -> None:
    # Linear and activations work on the last axis, whatever stands before it
    LAYERS[type(spec.layer)](spec.layer, parts, name)


def _emit_dropout(spec: Dropout, parts: Parts, name: str) -> None:
    parts.init.append(f"        self.{name} = nn.Dropout({spec.rate!r})")
    parts.forward.append(f"        x = self.{name}(x)")


def _emit_activation(spec: Activation, parts: Parts, _name: str) -> None:
    if spec.activation != "linear":
        parts.forward.append(f"        x = {function(parts, spec.activation)}(x)")


LAYERS: dict[type[Spec], Callable[..., None]] = {
    LSTM: _emit_recurrent,
    SimpleRNN: _emit_recurrent,
    Dense: _emit_dense,
    TimeDistributed: _emit_time_distributed,
    Dropout: _emit_dropout,
    Activation: _emit_activation,
}


def _emit_node(parts: Parts, model: Model, node: Node, name: str) -> None:
    before = len(parts.init)
    LAYERS[type(node.spec)](node.spec, parts, name)
    if len(parts.init) > before:
        parts.init.insert(before, f"        {shape_comment(model, node)}")
    if node.spec.sizes() and not node.trainable:
        parts.init.append(f"        self.{name}.requires_grad_(False)")


def _functions(dtype: str, module: str, make: list[str]) -> list[list[str]]:
    """The functions build and load of an emitted module."""
    default = f"dtype: torch.dtype = torch.{dtype}"
    return [
        [
            *signature("build", module, "weights: Mapping[str, Tensor]", default),
            '    """The model with these weights, by name, in evaluation mode."""',
            *make,
            "    model.load_state_dict(weights)",
            "    return model.eval()",
        ],
        [
            *signature("load", module, FOLDER, default),
            '    """The model with the trained weights that lie in `folder`."""',
            '    return build(load_file(Path(folder) / "weights.safetensors"), dtype)',
        ],
    ]


def _make(model: Model, lone: bool) -> tuple[str, list[str]]:
    """Class of what build returns, and the lines that make it."""
    node = model.layers[0]
    if not lone:
        return "Model", ["    model = Model().to(dtype)"]
    made = native(node.spec) or _linear(node.spec)
    frozen = [] if node.trainable else ["    model.requires_grad_(False)"]
    return made.name, [*statement("model = ", made, 4, ".to(dtype)"), *frozen]


def emit(model: Model) -> str:
    """Source text of `model.py` for PyTorch."""
    lone = model.lone and bare(model.layers[0].spec)
    parts = Parts() if lone else collect(model, _emit_node)
    functions = _functions(model.compute_dtype().name, *_make(model, lone))
    standard = {"from collections.abc import Mapping", "from pathlib import Path"}
    if "from collections.abc import Callable" in parts.imports:
        standard = {"from collections.abc import Callable, Mapping", "from pathlib import Path"}
    third = {line for line in parts.imports if "torch" in line}
    third |= {
        "import torch",
        "from torch import Tensor, nn",
        "from safetensors.torch import load_file",
    }
    head = docstring(
        f"A PyTorch module ported from {origin(model)}.",
        "Needs torch and safetensors. `load()` gives the model with its trained weights.",
    )
    head += imports(standard, third)
    return join([head, *([text] for text in parts.helpers), _class(model, parts, lone), *functions])


def _cast(model: Model) -> list[str]:
    """Integers become the parameters' dtype, as Keras casts them."""
    spec = model.node(model.inputs[0]).spec
    whole = isinstance(spec, Input) and "float" not in spec.dtype
    return ["        x = x.to(next(self.parameters()).dtype)"] if whole else []


def _class(model: Model, parts: Parts, lone: bool) -> list[str]:
    if lone:
        return []
    before, after = model.node(model.inputs[0]), model.node(model.outputs[0])
    return [
        "class Model(nn.Module):",
        f'    """{shape_text(before.shape)} -> {shape_text(after.shape)}."""',
        "",
        "    def __init__(self) -> None:",
        "        super().__init__()",
        *parts.init,
        "",
        "    def forward(self, x: Tensor) -> Tensor:",
        f'        """One output for a batch of inputs {shape_text(before.shape)}."""',
        *_cast(model),
        *parts.forward,
        "        return x",
    ]
