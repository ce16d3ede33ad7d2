"""Layers of Keras next to the specs that stand for them; test_reference_layers runs both.

A case gives a layer of Keras and one or more stages: specs that do the same one after the other.
Where there is one stage, the spec has the option itself; where there are several, they show how
the option is taken apart.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from xlstm.ir import layers as specs
from xlstm.ir.layers import Permute
from xlstm.testing.models import sliding  # noqa: F401  its users have all from here


@dataclass(frozen=True)
class Stage:
    """A spec, and what Keras calls its hub tensors where it has other names."""

    spec: specs.LayerSpec
    names: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Case:
    """One layer with its options.

    Attributes:
        make: builds the layer of Keras.
        stages: the specs that stand for it.
        shapes: of one sample of each input.
        exact: whether the numbers are equal to the last bit.
        rounded: whether Keras rounds a constant of the layer to float32 whatever its dtype.
        kind: what the inputs are: "numbers"; "round" for few numbers, so that edges are met;
            "ids" from 0 to 4; "fractions" between them; "tiny" for rows ever smaller, down to 0.
        masks: which inputs have masks: "0" the only one; of attention q, v, k.
        calls: further arguments of the call.
        compiled: whether TensorFlow has this on the CPU in compiled code only.
        single: whether TensorFlow has this in float32 only.
        zeros: names of weights that are zeros.
    """

    make: Callable[[], Any]
    stages: tuple[Stage, ...]
    shapes: tuple[tuple[int, ...], ...]
    exact: bool = False
    rounded: bool = False
    kind: str = "numbers"
    masks: str = ""
    calls: Mapping[str, Any] = field(default_factory=dict)
    compiled: bool = False
    single: bool = False
    zeros: tuple[str, ...] = ()


NAMES: dict[str, dict[str, str]] = {
    "BatchNorm": {"mean": "moving_mean", "variance": "moving_variance"},
    "PRelu": {"slopes": "alpha"},
    "RMSNorm": {"gamma": "scale"},
    "Embedding": {"table": "embeddings"},
    "LSTM": {"recurrent": "recurrent_kernel"},
    "Attention": {"attention_scale": "concat_score_weight"},
    "MultiHeadAttention": {
        f"{part}_{tensor}": f"{'attention_output' if part == 'output' else part}/{tensor}"
        for part in ("query", "key", "value", "output")
        for tensor in ("kernel", "bias")
    },
}


def case(make: Callable[[], Any], stages: Any, *shapes: tuple[int, ...], **more: Any) -> Case:
    """A case of one spec, or of a tuple of them one after the other."""
    found = stages if isinstance(stages, tuple) else (stages,)
    staged = [s if isinstance(s, Stage) else Stage(s, NAMES.get(s.kind, {})) for s in found]
    return Case(make, tuple(staged), shapes, **more)


LAST = {1: Permute((2, 1)), 2: Permute((2, 3, 1)), 3: Permute((2, 3, 4, 1))}
FIRST = {1: Permute((2, 1)), 2: Permute((3, 1, 2)), 3: Permute((4, 1, 2, 3))}


def first(rank: int, *inner: specs.LayerSpec) -> tuple[specs.LayerSpec, ...]:
    """How data_format="channels_first" with `rank` axes of space is taken apart."""
    return (LAST[rank], *inner, FIRST[rank])
