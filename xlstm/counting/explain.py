"""Explains a layer's parameters without a file: formula, gates, and the tensors that store them.

In: the name of a layer and its sizes. Out: an `Explanation`.

    explain("LSTM", features=1, units=20).formula      # "4 n (m + n + 1)"
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from xlstm.counting import formulas, tensor_rows, wording
from xlstm.counting.explanation import ExplanationData
from xlstm.counting.formulas import ExplainedLayer
from xlstm.counting.framework_formulas import framework_formulas, native_count
from xlstm.counting.ledger import count_model
from xlstm.counting.picture import svg
from xlstm.counting.render import markdown, page, text
from xlstm.counting.tensor_rows import TensorRow
from xlstm.counting.wording import number
from xlstm.errors import UnsupportedError, UsageError
from xlstm.frameworks import registry
from xlstm.ir import layers as L
from xlstm.ir.graph import chain
from xlstm.ir.layers.base import check_size
from xlstm.ir.source import Source
from xlstm.ir.types import Shape

LAYERS: dict[str, type[L.Recurrent] | type[L.Dense]] = {
    "LSTM": L.LSTM,
    "GRU": L.GRU,
    "SimpleRNN": L.SimpleRNN,
    "Dense": L.Dense,
    "CuDNNLSTM": L.LSTM,
    "CuDNNGRU": L.GRU,
    "ConvLSTM1D": L.ConvLSTM,
    "ConvLSTM2D": L.ConvLSTM,
    "ConvLSTM3D": L.ConvLSTM,
}
"""Layers that can be explained, beside Bidirectional, an LSTM in both directions."""

CONVOLVED = tuple(name for name, cls in LAYERS.items() if cls is L.ConvLSTM)

DEEPEST = 1000
"""Most layers of a stack; more make no sense and are slow."""

RECURRENT = ("LSTM", "GRU", "SimpleRNN", "CuDNNLSTM", "CuDNNGRU")
HAVE = {
    "bidirectional": (*RECURRENT, *CONVOLVED),
    "layers": RECURRENT,
    "kernel_size": CONVOLVED,
    "projection": ("LSTM",),
    "peepholes": ("LSTM",),
    "reset_after=False (--reset-before)": ("GRU",),
    "use_bias=False (--no-bias)": ("LSTM", "GRU", "SimpleRNN", "Dense", *CONVOLVED),
}
"""Option -> the layers that have it."""


class Explanation(ExplanationData):
    """A layer's parameters explained, with its texts and its picture.

    >>> print(explain("LSTM", features=1, units=20).formula)
    4 n (m + n + 1)
    """

    def to_markdown(self) -> str:
        """The explanation as Markdown."""
        return markdown(self)

    def to_svg(self) -> str:
        """A picture of the gate blocks of each framework's tensors, to scale, as SVG.

        Raises:
            UnsupportedError: no framework has the layer, so that there is nothing to draw.
        """
        return svg(self)

    def __str__(self) -> str:
        return text(self)

    def _repr_html_(self) -> str:
        try:
            picture = svg(self)
        except UnsupportedError:
            picture = ""
        return page(self, picture)


def explain(
    layer: str,
    *,
    features: int,
    units: int,
    timesteps: int | None = None,
    batch: int | None = None,
    bidirectional: bool = False,
    layers: int = 1,
    projection: int | None = None,
    peepholes: bool = False,
    reset_after: bool = True,
    use_bias: bool = True,
    kernel_size: int | Sequence[int] | None = None,
    **unknown: object,
) -> Explanation:
    """Explains a layer's parameters in every framework.

    Args:
        layer: "LSTM", "GRU", "SimpleRNN", "Dense", "CuDNNLSTM", "CuDNNGRU", "ConvLSTM2D" (also 1D
            and 3D), or "Bidirectional" for an LSTM in both directions; in small letters too.
        features: size of the input, m; of a ConvLSTM its channels.
        units: size of the output and of the hidden state, n.
        timesteps: length of the sequences; operations grow with it, parameters do not.
        batch: sequences in a batch; operations grow with it, parameters do not.
        bidirectional: True for a second layer that reads the sequence from its end.
        layers: number of stacked layers.
        projection: size that an LSTM's h is projected to, None for none.
        peepholes: True if an LSTM's gates read c.
        reset_after: the form of a GRU.
        use_bias: True for layers with biases.
        kernel_size: of a ConvLSTM, one number for all axes or one for each; 3 by default.
        unknown: no option; an unknown name is an error that names the nearest option.

    Raises:
        UsageError: an unknown layer or option, sizes that are not whole numbers from 1 on, or
            options that the layer does not have.

    >>> explain("LSTM", features=1, units=20).ledger.total("torch")
    1840
    >>> explain("LSTM", features=4096, units=256, timesteps=16).mistakes[0].count
    17246978048
    """
    if isinstance(layer, str):
        known = {name.lower(): name for name in (*LAYERS, "Bidirectional")}
        layer = known.get(layer.lower(), layer)
    if layer == "Bidirectional":
        layer, bidirectional = "LSTM", True
    if not isinstance(layer, str) or layer not in LAYERS:
        names = ", ".join([*LAYERS, "Bidirectional"])
        raise UsageError("explain", f"one of {names}", repr(layer), _nearest(layer))
    _check_names(unknown)
    options = {
        "bidirectional": bidirectional,
        "layers": layers != 1,
        "kernel_size": kernel_size is not None,
        "projection": projection is not None,
        "peepholes": peepholes,
        "reset_after=False (--reset-before)": not reset_after,
        "use_bias=False (--no-bias)": not use_bias,
    }
    _check_options(layer, [name for name, on in options.items() if on])
    check_size(layer, features=features, units=units)
    sizes = {"timesteps": timesteps, "batch": batch, "projection": projection}
    check_size("explain", **{name: size for name, size in sizes.items() if size is not None})
    check_size("explain", layers=layers)
    if layers > DEEPEST:
        raise UsageError("explain.layers", f"at most {DEEPEST}", f"{layers}", "stack fewer")
    if projection and projection >= units:
        do = f"give {units - 1} or less" if units > 1 else "remove the projection"
        raise UsageError("explain.projection", f"less than the {units} units", f"{projection}", do)
    cls = LAYERS[layer]
    of_lstm = {"projection": int(projection or 0), "peepholes": bool(peepholes)}
    extra: dict[Any, dict[str, Any]] = {L.LSTM: of_lstm, L.GRU: {"reset_after": bool(reset_after)}}
    if layer in CONVOLVED:
        extra[cls] = _window(layer, 3 if kernel_size is None else kernel_size)
    spec: Any = cls(features, units, use_bias=bool(use_bias), **extra.get(cls, {}))
    stack = tuple(_stack(spec, layers, bidirectional))
    two = layer.startswith("CuDNN") or getattr(spec, "reset_after", False)
    biases = (2 if two else 1) * bool(use_bias)  # in Keras's count
    return _explained(ExplainedLayer(layer, spec, stack, biases, timesteps, batch))


def _window(layer: str, size: int | Sequence[int]) -> dict[str, Any]:
    """Returns the options of a ConvLSTM with a window; its image has any size that is large enough.

    Raises:
        UsageError: not as many sizes as axes, or one that is no whole number from 1 on.
    """
    rank = int(layer[-2])
    sizes = (size,) * rank if isinstance(size, int) else tuple(size)
    if len(sizes) != rank:
        want = f"{number(rank, 'size')}, or one for all axes"
        raise UsageError("explain.kernel_size", want, f"{len(sizes)}", "name one for each axis")
    check_size("explain", **{f"kernel_size[{place}]": one for place, one in enumerate(sizes)})
    ones = (1,) * rank
    return {
        "space": tuple(one + 1 for one in sizes),
        "window": sizes,
        "strides": ones,
        "dilation": ones,
        "padding": "same",
    }


def _nearest(word: object) -> str:
    names = {name.lower(): name for name in (*LAYERS, "Bidirectional")}
    found = difflib.get_close_matches(str(word).lower(), list(names), 1, 0.4)
    return f"did you mean {names[found[0]]}?" if found else "use one of these"


def _check_names(unknown: Mapping[str, object]) -> None:
    """Raises UsageError for options that do not exist."""
    options = inspect.signature(explain).parameters.values()
    names = [option.name for option in options if option.kind is option.KEYWORD_ONLY]
    for word in unknown:
        found = difflib.get_close_matches(word, names, 1)
        do = f"did you mean {found[0]}?" if found else "use one of these"
        raise UsageError("explain", f"the options {', '.join(names)}", word, do)


def _check_options(layer: str, options: list[str]) -> None:
    """Raises UsageError for options that a layer does not have."""
    wrong = [name for name in options if layer not in HAVE[name]]
    if wrong:
        own = [name for name, layers in HAVE.items() if layer in layers]
        want = f"options of {layer} ({', '.join([*own, 'timesteps', 'batch'])})"
        has = HAVE[wrong[0]]
        which = " and ".join([", ".join(has[:-1]), has[-1]] if has[1:] else has)
        do = f"remove {wrong[0]}; {which} {'have' if has[1:] else 'has'} it"
        raise UsageError("explain", want, wrong[0], do)


def _stack(spec: Any, layers: int, bidirectional: bool) -> list[L.LayerSpec]:
    """The layers one after the other; the output of each is the input of the next."""
    found: list[L.LayerSpec] = []
    features = spec.features
    for _ in range(layers):
        if isinstance(spec, L.Dense):
            return [spec]
        one = replace(spec, features=features, return_sequences=True)
        found.append(
            L.Bidirectional(one, replace(one, go_backwards=True)) if bidirectional else one
        )
        features = one.width * (2 if bidirectional else 1)
    return found


def _explained(case: ExplainedLayer) -> Explanation:
    names = [case.name.lower()]
    if len(case.stack) > 1:
        names = [f"{names[0]}_{place + 1}" for place in range(len(case.stack))]
    space = getattr(case.spec, "space", ())
    sample: Shape = (case.m,) if case.dense else (None, *space, case.m)
    listed = [(name, part, True) for name, part in zip(names, case.stack, strict=True)]
    lone = len(case.stack) == 1
    ledger = count_model(
        chain(case.name, listed, sample, {}, Source(""), lone=lone),
        registry.frameworks(),
        operations=True,
    )
    breakdown = formulas.breakdown(case)
    total = sum(row.count for row in breakdown)
    tensors = tuple(tensor_rows.tensors(case, names[0]))
    columns = tuple(tensor_rows.columns(case, ledger, total))
    natives = [native_count(ledger, name) for name in ledger.frameworks]
    right = {total, *(c.total for c in columns), *(one.count for one in natives if one)}
    return Explanation(
        kind=case.name,
        features=case.m,
        units=case.n,
        title=_title(case),
        formula=formulas.formula(case),
        numbers=f"{formulas.numbers(case)} = {total:,}",
        sizes=wording.sizes_line(case),
        equations=wording.equations(case),
        breakdown=breakdown,
        by_gate=formulas.by_gate(case, wording.GATES),
        lines=tuple(_lines(case, tensors, total)),
        mistakes=wording.mistakes(case, right),
        total=total,
        columns=columns,
        tensors=tensors,
        rest=formulas.later_layers(case),
        ledger=ledger,
        formulas=framework_formulas(case, columns, tensors, ledger),
        stateless=case.dense,
        timesteps=case.steps,
        batch=case.batch,
    )


def _title(case: ExplainedLayer) -> str:
    both = "bidirectional " if case.both > 1 else ""
    many = len(case.stack)
    text = f"{many} stacked {both}{case.name} layers" if many > 1 else f"{both}{case.name}"
    sizes = f"n = {number(case.n, 'unit')} on m = {number(case.m, 'feature')}"
    return f"{text[0].upper()}{text[1:]} of {sizes}"


def _lines(case: ExplainedLayer, tensors: tuple[TensorRow, ...], total: int) -> list[str]:
    found = wording.explained(case)
    title = "Keras"
    if case.name.startswith("CuDNN"):
        found.append(wording.cudnn_line(case, total))
        title = "Keras 3"
    whole = [t.gates for t in tensors if t.framework == "keras" and t.role == "kernel"]
    if whole and " " in whole[0]:
        found.append(wording.slices_line(title, whole[0].split(), case))
    return found
