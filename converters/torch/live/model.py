"""PyTorch, the half that imports it: reads live modules, builds and runs ports."""

from __future__ import annotations

import copy
import importlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.parameter import is_lazy
from torch.nn.utils import parametrize

from xlstm.errors import UnsupportedError
from xlstm.frameworks.array_tree import Leaf, leaf_of
from xlstm.ir.batch_axes import on_axes
from xlstm.ir.graph import (
    GRU,
    LSTM,
    Bidirectional,
    Dense,
    Dropout,
    LayerSpec,
    Model,
    Recurrent,
    SimpleRNN,
    Source,
    TimeDistributed,
    chain,
)
from xlstm.ir.precision import HALF
from xlstm.ir.types import Array, Shape
from xlstm.slots import unpack

from ...codegen.half_precision import check_scores
from ..slots import TABLES

LAYERS: dict[type[nn.Module], tuple[str, Callable[..., Recurrent]]] = {
    nn.LSTM: ("LSTM", LSTM),
    nn.GRU: ("GRU", GRU),
    nn.RNN: ("RNN", SimpleRNN),
    nn.LSTMCell: ("LSTM", LSTM),
    nn.GRUCell: ("GRU", GRU),
    nn.RNNCell: ("RNN", SimpleRNN),
}
"""Recurrent module class -> (name of its table, its spec)."""

COUNTERS = frozenset(name for table in TABLES.values() for name in table.counters)
"""Last parts of the names of numbers that count training steps."""

READABLE = (*LAYERS, nn.Linear)

PROCESS_WIDE = threading.RLock()
"""Taken by whoever sets, and sets back, what PyTorch has once for all threads."""


@dataclass
class _Found:
    """The layers of a module, in order, with their weights."""

    layers: list[tuple[str, LayerSpec, bool]] = field(default_factory=list)
    weights: dict[str, dict[str, Array]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def _refuse(source: nn.Module, want: str, got: str, do: str) -> UnsupportedError:
    return UnsupportedError(f"torch {_name(source)}", want, got, do)


def _name(source: nn.Module) -> str:
    kind = type(source).__name__
    return f"nn.{kind}" if type(source) in READABLE else kind


def _check(source: nn.Module) -> None:
    """Raises UnsupportedError for a module that may compute something else than its class says."""
    if parametrize.is_parametrized(source):
        do = "remove them with torch.nn.utils.parametrize.remove_parametrizations"
        raise _refuse(source, "plain parameters", "parametrizations", do)
    if "quantized" in type(source).__module__:
        do = "read the module before it was quantized"
        raise _refuse(source, "floating-point weights", "a quantized module", do)
    if type(source) not in READABLE:
        known = ", ".join(f"nn.{cls.__name__}" for cls in READABLE)
        raise _refuse(source, known, type(source).__name__, "pass the layers one by one")
    if source._forward_hooks or source._forward_pre_hooks or "forward" in vars(source):
        do = "remove them, and apply what they do yourself"
        got = "forward hooks (weight_norm adds one)"
        raise _refuse(source, "a module without hooks", got, do)
    wrong = [name for name, p in source.named_parameters() if p.is_meta or p.is_sparse]
    wrong += [name for name, p in source.named_parameters() if not p.is_floating_point()]
    if wrong:
        got = f"others in {', '.join(wrong)}"
        raise _refuse(source, "dense real weights that are there", got, "load its weights first")


def _trainable(source: nn.Module, names: Sequence[str]) -> bool:
    """Whether training changes the parameters of one layer: all or none of them."""
    flags = {source.get_parameter(name).requires_grad for name in names}
    if len(flags) > 1:
        want, do = "parameters all frozen or none", "freeze the port's parameters yourself"
        raise _refuse(source, want, "some with requires_grad=False", do)
    return flags != {False}


def _linear(source: nn.Linear) -> _Found:
    spec = Dense(source.in_features, source.out_features, use_bias=source.bias is not None)
    arrays = weights(source)
    hub = unpack(TABLES["Linear"], arrays, spec.sizes(), spec.missing_tensors(), "torch nn.Linear")
    return _Found([("linear", spec, _trainable(source, list(arrays)))], {"linear": hub})


def _options(source: nn.RNNBase | nn.RNNCellBase) -> dict[str, Any]:
    """The options that all layers of a recurrent module share."""
    found: dict[str, Any] = {"use_bias": bool(source.bias), "return_sequences": True}
    if isinstance(source, (nn.RNN, nn.RNNCell)):
        found["activation"] = source.nonlinearity
    if isinstance(source, nn.LSTM):
        found["projection"] = source.proj_size
    return found


def stack(source: nn.RNNBase | nn.RNNCellBase) -> _Found:
    """The layers of a recurrent module one by one, with Dropout between them as it has it."""
    found = _Found()
    name, make = LAYERS[type(source)]
    several = isinstance(source, nn.RNNBase) and source.num_layers > 1
    features = source.input_size
    for number in range(source.num_layers if isinstance(source, nn.RNNBase) else 1):
        end = f"_l{number}" if several else ""
        if number and source.dropout:
            rate = float(source.dropout)
            found.layers.append((f"dropout_l{number - 1}", Dropout(rate), True))
        own = make(features, source.hidden_size, **_options(source))
        features = _add(found, source, f"{name.lower()}{end}", own, number)
    if isinstance(source, nn.RNNCellBase):
        found.notes.append(
            f"{name}Cell, one step of it, is read as the layer that walks along a sequence with it"
        )
    return found


def _add(found: _Found, source: nn.Module, name: str, spec: Recurrent, number: int) -> int:
    """Adds one layer of a stack and gives the size of its output."""
    if not getattr(source, "bidirectional", False):
        hub, names = _tensors(source, spec, number)
        whole: LayerSpec = spec
    else:
        hub, names = _tensors(source, spec, number, before="forward_")
        more, others = _tensors(source, spec, number, "_reverse", before="backward_")
        hub, names = hub | more, names + others
        whole = Bidirectional(spec, replace(spec, go_backwards=True))
    found.layers.append((name, whole, _trainable(source, names)))
    found.weights[name] = hub
    return whole.output_shape((None, spec.features))[-1] or 0


def _tensors(
    source: nn.Module, spec: Recurrent, number: int, direction: str = "", before: str = ""
) -> tuple[dict[str, Array], list[str]]:
    """Hub tensors of one direction of one layer, and the names of its parameters."""
    table = TABLES[
        "LSTM with projection" if "projection" in spec.weight_kind else LAYERS[type(source)][0]
    ]
    mark = f"_l{number}{direction}" if isinstance(source, nn.RNNBase) else ""
    slots = table.present_slots(spec.missing_tensors())
    names = {slot.name: slot.name.replace("_l0", mark) for slot in slots}
    arrays = {slot: to_numpy(source.get_parameter(name)) for slot, name in names.items()}
    hub = unpack(table, arrays, spec.sizes(), spec.missing_tensors(), f"torch {_name(source)}")
    return {before + tensor: array for tensor, array in hub.items()}, [*names.values()]


AROUND = {
    "torch.nn.parallel.data_parallel.DataParallel": "module",
    "torch.nn.parallel.distributed.DistributedDataParallel": "module",
    "torch.optim.swa_utils.AveragedModel": "module",
    "torch._dynamo.eval_frame.OptimizedModule": "_orig_mod",  # what torch.compile gives
}
"""Classes of modules that run the module inside them -> the name that they give it."""


def inside(source: nn.Module) -> nn.Module:
    """The module that modules of PyTorch around it run; the source itself where there is none."""
    while name := AROUND.get(f"{type(source).__module__}.{type(source).__qualname__}"):
        if source._forward_hooks or source._forward_pre_hooks:
            break
        source = getattr(source, name)
    return source


def read(source: nn.Module) -> Model:
    """A recurrent module or cell of `torch.nn`, or `nn.Linear`; a stack becomes a chain.

    Any other module is traced by `torch.fx`.

    Raises:
        UnsupportedError: a module that cannot be traced, or whose hooks or parametrizations change
            it.
    """
    if not isinstance(source, READABLE):
        read_whole: Callable[[nn.Module], Model] = _traced().read
        return read_whole(source)
    _check(source)
    found = _linear(source) if isinstance(source, nn.Linear) else stack(source)
    name, first, _ = found.layers[0]
    features = first.weighted_parts[0][1].sizes()["i"]
    shape: Shape = (features,) if isinstance(first, Dense) else (None, features)
    container = f"live nn.{type(source).__name__}"
    origin = Source("torch", str(torch.__version__), container, notes=tuple(found.notes))
    late = int(not getattr(source, "batch_first", True))
    lone = len(found.layers) == 1 and not late
    title = name if len(found.layers) == 1 else name.removesuffix("_l0")
    made = chain(title, found.layers, shape, found.weights, origin, lone=lone)
    return on_axes(made, [late], [late])


def as_made(source: nn.Module) -> bool:
    """Whether a module of an emitted class has the layers that its class makes, and no hooks."""
    with PROCESS_WIDE, torch.device("meta"):  # it sets torch.utils._device.CURRENT_DEVICE
        made = type(source)()
    hooked = (
        module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module)
        for module in source.modules()
    )
    return str(made) == str(source) and not any(hooked)


def to_numpy(tensor: torch.Tensor) -> Array:
    """A tensor's values as numpy; bfloat16, which numpy lacks, widened to float32 exactly."""
    tensor = tensor.detach().cpu()
    return np.array((tensor.float() if tensor.dtype is torch.bfloat16 else tensor).numpy())


def build(code: ModuleType, weights: Mapping[str, Array], dtype: str) -> nn.Module:
    """The module that emitted `code` gives with these weights."""
    tensors = {name: torch.from_numpy(array.copy()) for name, array in weights.items()}
    built: nn.Module = code.build(tensors, getattr(torch, dtype))
    return built


def random_state() -> Callable[[], None]:
    """Takes PyTorch's global random states, of all devices in use; returns what puts them back."""
    cpu = torch.get_rng_state()
    devices = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []

    def back() -> None:
        torch.set_rng_state(cpu)
        if devices:
            torch.cuda.set_rng_state_all(devices)

    return back


def check_half(model: Model, dtype: str) -> None:
    """Raises UnsupportedError for what half precision has no numbers for."""
    check_scores(model, "torch", dtype, lambda _spec: True)


def run(ported: nn.Module, inputs: Sequence[Array], dtype: str) -> list[Array]:
    """Outputs for numpy inputs, batch first; then the last states of stateful layers.

    The states that native recurrent modules add are left out.
    """
    with torch.no_grad():
        outputs = _call(ported, [_tensor(np.asarray(x), dtype) for x in inputs])
    return [to_numpy(y) for y in _flat(outputs)]


def _tensor(x: Array, dtype: str) -> torch.Tensor:
    """An input in `dtype`; masks stay what they are, as row numbers do in half precision."""
    if x.dtype == bool or (dtype in HALF and x.dtype.kind in "iu"):
        return torch.from_numpy(np.array(x))
    if dtype in HALF:
        return torch.from_numpy(np.array(x, "float32")).to(getattr(torch, dtype))
    return torch.from_numpy(np.array(x, dtype))


INEXACT_GRADIENTS = {
    "hard_sigmoid": ("torch.nn.functional.hardsigmoid takes 1/6 in float32 backwards", 2.0**-24),
}
"""Activations whose gradients PyTorch computes inexactly in float64 -> why, and their error."""


def inexact_gradients(model: Model, dtype: str) -> dict[str, float]:
    """Activations of `model` whose gradients are inexact in `dtype` -> their errors."""
    found: dict[str, float] = {}
    for node in model.layers if dtype == "float64" else ():
        for _, part in (("", node.spec), *node.spec.weighted_parts):
            inner = part.layer if isinstance(part, TimeDistributed) else part
            for use in ("activation", "gate_activation"):
                why, error = INEXACT_GRADIENTS.get(getattr(inner, use, ""), ("", 0.0))
                found |= {f"{node.name}: {why}": error} if why else {}
    return found


def gradients(
    ported: nn.Module,
    inputs: Sequence[Array],
    factors: Sequence[Array | None],
    moved: Sequence[bool],
    dtype: str,
) -> tuple[dict[str, Array], list[Array | None]]:
    """Gradients of the sum of all outputs times `factors`: of weights by name, and of inputs.

    Outputs whose factor is None are left out, as are inputs that are not `moved`.
    """
    module = copy.deepcopy(ported)
    held = {name: p.requires_grad_(True) for name, p in module.named_parameters()}
    arrays = (np.array(x, bool if np.asarray(x).dtype == bool else dtype) for x in inputs)
    pairs = zip(map(torch.from_numpy, arrays), moved, strict=True)
    given = [x.requires_grad_(True) if moves else x for x, moves in pairs]
    wanted = [*held.values(), *(x for x in given if x.requires_grad)]
    found = torch.autograd.grad(_loss(module, given, factors), wanted, allow_unused=True)
    pairs_of_found = zip(found, wanted, strict=True)
    filled = iter([to_numpy(torch.zeros_like(x) if g is None else g) for g, x in pairs_of_found])
    by_name = {name: next(filled) for name in held}
    return by_name, [next(filled) if moves else None for moves in moved]


def _loss(
    module: nn.Module, given: list[torch.Tensor], factors: Sequence[Array | None]
) -> torch.Tensor:
    """The sum of all outputs times `factors`."""
    pairs = zip(_flat(_call(module, given)), factors, strict=False)
    parts = [(y * torch.from_numpy(c).to(y)).sum() for y, c in pairs if c is not None]
    return torch.stack(parts).sum()


def step(
    ported: nn.Module,
    inputs: Sequence[Array],
    factors: Sequence[Array | None],
    rate: float,
    dtype: str,
) -> dict[str, Array]:
    """Weights by name after one step of `torch.optim.SGD` on the sum of outputs times `factors`."""
    module = copy.deepcopy(ported)
    arrays = (np.array(x, bool if np.asarray(x).dtype == bool else dtype) for x in inputs)
    trained = [p for p in module.parameters() if p.requires_grad]
    loss = _loss(module, [torch.from_numpy(x) for x in arrays], factors)
    if trained and loss.requires_grad:
        loss.backward()  # type: ignore[no-untyped-call]
        torch.optim.SGD(trained, lr=rate).step()
    return weights(module)


def _call(ported: nn.Module, inputs: list[torch.Tensor]) -> Any:
    if isinstance(ported, nn.RNNCellBase):
        return _walk(ported, *inputs)
    if not isinstance(ported, nn.RNNBase):
        return ported(*inputs)
    (x,) = inputs
    if ported.batch_first:
        return ported(x)[0]
    return ported(x.transpose(0, 1))[0].transpose(0, 1)


def _walk(cell: nn.RNNCellBase, x: torch.Tensor) -> torch.Tensor:
    """(batch, time, input) -> (batch, time, hidden), step by step."""
    outputs, state = [], None
    for step in x.unbind(1):
        state = cell(step, state)
        outputs.append(state[0] if isinstance(state, tuple) else state)
    return torch.stack(outputs, 1)


def _flat(outputs: Any) -> Iterator[torch.Tensor]:
    """Outputs and the states of each layer, one after the other."""
    if isinstance(outputs, torch.Tensor):
        yield outputs
        return
    for part in outputs.values() if isinstance(outputs, dict) else outputs:
        yield from _flat(part)


def count(ported: nn.Module) -> int:
    """`sum(p.numel() for p in module.parameters())`."""
    return sum(p.numel() for p in ported.parameters())


def leaves(source: Any) -> dict[str, Leaf]:
    """Every parameter and buffer of any module, for counting; none where one hides its weights."""
    if not isinstance(source, nn.Module):
        return {}
    source = inside(source)
    held = dict(source.named_parameters(remove_duplicate=False))
    beside = dict(source.named_buffers(remove_duplicate=False))
    hides = any("quantized" in type(module).__module__ for module in source.modules())
    if hides or any(is_lazy(tensor) for tensor in (*held.values(), *beside.values())):
        return {}
    found = {n: leaf_of(p, trainable=p.requires_grad, other=False) for n, p in held.items()}
    found |= {n: leaf_of(b, trainable=False, other=True) for n, b in beside.items()}
    return {name: leaf for name, leaf in found.items() if leaf}


def in_dtype(source: nn.Module, dtype: str) -> nn.Module:
    """A copy of a live module in evaluation mode that computes in `dtype`."""
    source = inside(source)
    # evaluation mode of PyTorch: no dropout, stored statistics; the source keeps its own mode
    made = copy.deepcopy(source).to(getattr(torch, dtype)).eval()
    if isinstance(source, READABLE):
        return made
    traced = _traced()
    return traced.Original(made, traced.understand(source), getattr(torch, dtype))


def _traced() -> Any:
    """The reader of whole modules, which reads their layers with this module."""
    return importlib.import_module("xlstm.converters.torch.read.graph")


def weights(ported: nn.Module) -> dict[str, Array]:
    """What a built module holds, by name, but for what its function does not use."""
    held = inside(ported).state_dict().items()
    return {n: to_numpy(t) for n, t in held if n.rpartition(".")[2] not in COUNTERS}


def watch(source: nn.Module, inputs: Sequence[Array], dtype: str, **options: Any) -> Any:
    """One run of any module as it is, with what its submodules gave (`hooks.watch`)."""
    module = importlib.import_module("xlstm.converters.torch.live.hooks")
    return module.watch(source, inputs, dtype, **options)


def axes_of(source: nn.Module) -> frozenset[str]:
    """Words for ways in which a module is called otherwise than a port: "time first", "states"."""
    if isinstance(source, READABLE):
        return frozenset()  # it is called as ports are
    found = _traced().understand(source)
    states = any(layout.given for layout in found.layouts)
    states |= any(end.states for end in found.outputs)
    late = any(layout.batch and not layout.given for layout in found.layouts)
    late |= any(end.batch and not end.states for end in found.outputs)
    return frozenset(["time first"] * late + ["states"] * states)
