"""Training graphs of encoders and decoders, one for each way in which decoders are wired."""

from collections.abc import Callable
from dataclasses import replace

from cases import built, encoder_decoder

from xlstm.ir.graph import Builder, Edge, Model
from xlstm.ir.layers import (
    GRU,
    LSTM,
    Across,
    Along,
    Attention,
    Bidirectional,
    Concatenate,
    Conv,
    ConvLSTM,
    Dense,
    Dot,
    Einsum,
    Embedding,
    GlobalPool,
    Input,
    LayerNorm,
    LayerSpec,
    Masking,
    Merge,
    MultiHeadAttention,
    Permute,
    Reduce,
    RepeatVector,
    Reshape,
    Reverse,
    Slice,
    Softmax,
    TimeDistributed,
)

RS = {"return_sequences": True}
RUNNING = {"return_sequences": True, "return_state": True}


def start(target: LayerSpec | None = None) -> tuple[Builder, Edge, list[Edge]]:
    """A graph with a source, an encoder of 4 units, a target of 2 features; target and states."""
    graph = Builder()
    x = graph.add("source", Input((None, 3)))
    graph.add("encoder", LSTM(3, 4, **RUNNING), [x])
    y = graph.add("target", target or Input((None, 2)))
    return graph, y, [Edge("encoder", 1), Edge("encoder", 2)]


def decoded(target: LayerSpec | None = None, **options: bool) -> tuple[Builder, Edge]:
    """The same with a decoder of 4 units; its output."""
    graph, y, states = start(target)
    return graph, graph.add("decoder", LSTM(2, 4, **{**RS, **options}), [y], states=states)


def two_layers() -> Model:
    """Two stacked decoders whose states come from two encoders; a target of fixed length."""
    graph = Builder()
    x, y = graph.add("source", Input((None, 3))), graph.add("target", Input((5, 2)))
    first = GRU(3, 4, return_sequences=True, return_state=True)
    graph.add("encoder_0", first, [x])
    graph.add("encoder_1", GRU(4, 4, return_state=True), [Edge("encoder_0")])
    one = graph.add("decoder", GRU(2, 4, **RS), [y], states=[Edge("encoder_0", 1)])
    two = graph.add("decoder_1", GRU(4, 4, **RS), [one], states=[Edge("encoder_1", 1)])
    return built(graph, [graph.add("dense", Dense(4, 2, "softmax"), [two])])


def upper(*specs: LayerSpec) -> Model:
    """A decoder with layers over it."""
    graph, y = decoded()
    for number, spec in enumerate(specs):
        y = graph.add(f"upper_{number}", spec, [y])
    return built(graph, [y])


def bridge() -> Model:
    """States that a Dense layer makes; the target's layers before the decoder."""
    graph, y, states = start()
    h = graph.add("bridge", Dense(4, 4, "tanh"), states[:1])
    y = graph.add("norm", LayerNorm(2), [y])
    y = graph.add("decoder", GRU(2, 4, **RS), [y], states=[h])
    return built(graph, [y, graph.add("dense", TimeDistributed(Dense(4, 2)), [y])])


def caption() -> Model:
    """One vector is what h, c, and the state of a second layer start from, and is read as well."""
    graph = Builder()
    x, y = graph.add("source", Input((3,))), graph.add("target", Input((5, 2)))
    h = graph.add("picture", Dense(3, 4, "tanh"), [x])
    y = graph.add("decoder", LSTM(2, 4, **RS), [y], states=[h, h])
    y = graph.add("second", GRU(4, 4, **RS), [y], states=[h])
    seen = graph.add("seen", Merge("add"), [y, h])
    return built(graph, [seen])


def attention(masked: bool = False) -> Model:
    """Attention to the encoder's sequence, where its mask lets it."""
    graph = Builder()
    x, y = graph.add("source", Input((None, 3))), graph.add("target", Input((None, 2)))
    mask = None
    if masked:
        x = graph.add("masking", Masking(), [x])
        mask = Edge("masking", 1)
    e = graph.add("encoder", LSTM(3, 4, **RUNNING), [x], mask=mask)
    states = [Edge("encoder", 1), Edge("encoder", 2)]
    y = graph.add("decoder", LSTM(2, 4, **RS), [y], states=states)
    spec = Attention(4, "additive", masks="v" * masked)
    seen = graph.add("attention", spec, [y, e, *([mask] if mask else [])])
    both = graph.add("both", Concatenate(), [y, seen])
    return built(graph, [graph.add("dense", Dense(8, 3, "softmax"), [both])])


def dot_attention() -> Model:
    """Luong's attention out of products."""
    graph, y = decoded()
    e = Edge("encoder")
    scores = graph.add("scores", Dot((2, 2)), [y, e])
    weights = graph.add("weights", Softmax(), [scores])
    seen = graph.add("seen", Dot((2, 1)), [weights, e])
    return built(graph, [graph.add("both", Concatenate(), [seen, y])])


def heads() -> Model:
    """Several heads, whose weights are an output too, and products by letters."""
    graph, y = decoded()
    e = Edge("encoder")
    spec = MultiHeadAttention(2, 3, 2, 4, 4, 4, 4, scores=True)
    seen = graph.add("heads", spec, [y, e, e])
    weights = graph.add("largest", Reduce("max", (0,)), [Edge("heads", 1)])
    more = graph.add("products", Einsum("ce,de->dc"), [e, seen])
    return built(graph, [Edge("heads", 1), weights, more])


def context() -> Model:
    """A vector that is given beside the target, repeated for every step of a fixed length."""
    graph, y = decoded(Input((5, 2)))
    c = graph.add("context", Input((3,)))
    c = graph.add("narrow", Dense(3, 2), [c])
    c = graph.add("repeat", RepeatVector(5), [c])
    both = graph.add("both", Concatenate(), [y, c])
    return built(graph, [graph.add("dense", Dense(6, 2), [both])])


def more_targets() -> Model:
    """A second target that joins late, a vector that stretches over all steps, other shapes."""
    graph, y = decoded(Input((5, 2)))
    late = graph.add("late", Input((5, 1)))
    c = graph.add("context", Input((4,)))
    y = graph.add("sum", Merge("add"), [y, late, c])
    y = graph.add("shaped", Reshape((5, 2, 2)), [y])
    y = graph.add("turned", Permute((3, 1, 2)), [y])
    return built(graph, [graph.add("largest", Reduce("max", (2,)), [y])])


def repeated() -> Model:
    """An autoencoder: what the decoder reads is the same at every step."""
    graph, _, states = start()
    graph = Builder()
    x = graph.add("source", Input((None, 3)))
    graph.add("encoder", LSTM(3, 4, return_state=True), [x])
    y = graph.add("repeat", RepeatVector(5), states[:1])
    y = graph.add("decoder", LSTM(4, 4, **RS), [y], states=states)
    return built(graph, [graph.add("dense", Dense(4, 2), [y])])


def masked(sequences: bool = True, zeros: bool = False, size: int = 4) -> Model:
    """A decoder, and a layer over it, that obey the mask of the target."""
    graph = Builder()
    x, y = graph.add("source", Input((None, 3))), graph.add("target", Input((None,)))
    graph.add("encoder", LSTM(3, 4, return_state=True), [x])
    y = graph.add("words", Embedding(7, 2, mask_zero=True), [y])
    mask, states = Edge("words", 1), [Edge("encoder", 1), Edge("encoder", 2)]
    lstm = LSTM(2, 4, return_sequences=True, zero_output_for_mask=zeros)
    y = graph.add("decoder", lstm, [y], mask=mask, states=states)
    y = graph.add("second", GRU(4, size, return_sequences=sequences), [y], mask=mask)
    return built(graph, [graph.add("dense", Dense(size, 2), [y])])


def last_steps() -> Model:
    """A decoder that is asked for its last output and states alone."""
    graph, y, states = start()
    spec = LSTM(2, 4, return_state=True)
    y = graph.add("decoder", spec, [y], states=states)
    seen = graph.add("repeat", RepeatVector(3), [y])
    seen = graph.add("other", GRU(4, 2), [seen])
    return built(graph, [y, Edge("decoder", 1), seen])


def shared_embedding() -> Model:
    """One table of words for both sides, one layer called by both."""
    graph = Builder()
    x, y = graph.add("source", Input((None,))), graph.add("target", Input((None,)))
    x = graph.add("words", Embedding(7, 3), [x])
    spec = LSTM(3, 4, return_sequences=True, return_state=True)
    graph.add("encoder", spec, [x])
    y = graph.add("words_1", Embedding(7, 3), [y], layer="words")
    states = [Edge("encoder", 1), Edge("encoder", 2)]
    y = graph.add("decoder", spec, [y], states=states, layer="encoder")
    y = graph.add("last", Slice(0, -1, drop=True), [y])
    return built(graph, [graph.add("dense", Dense(4, 2), [y])])


def pictures() -> Model:
    """A decoder of convolutions under a layer of another size."""
    graph = Builder()
    x, y = graph.add("source", Input((None, 4, 2))), graph.add("target", Input((None, 4, 2)))
    spec = ConvLSTM(2, 3, space=(4,), window=(3,), strides=(1,), padding="same", dilation=(1,))
    graph.add("encoder", replace(spec, return_state=True), [x])
    states = [Edge("encoder", 1), Edge("encoder", 2)]
    spec = replace(spec, return_sequences=True)
    y = graph.add("decoder", spec, [y], states=states)
    y = graph.add("upper", replace(spec, features=3), [y])
    y = graph.add("flat", Reshape((None, 12)), [y])
    return built(graph, [graph.add("top", LSTM(12, 2, **RS), [y])])


STEPPED: dict[str, Callable[[], Model]] = {
    "plain": encoder_decoder,
    "two layers": two_layers,
    "from zeros": lambda: upper(LSTM(4, 4, **RS), Dense(4, 2)),
    "fewer units from zeros": lambda: upper(GRU(4, 2, **RS), LSTM(2, 9, **RS)),
    "window of one": lambda: upper(
        Conv(4, 3, (1,), "relu", strides=(1,), dilation=(1,)), Softmax(), GRU(3, 3)
    ),
    "bridge": bridge,
    "caption": caption,
    "attention": attention,
    "masked attention": lambda: attention(masked=True),
    "dot attention": dot_attention,
    "heads": heads,
    "context": context,
    "more targets": more_targets,
    "repeated": repeated,
    "masked": masked,
    "masked, last": lambda: masked(sequences=False, size=3),
    "masked, zeros": lambda: masked(zeros=True),
    "last steps": last_steps,
    "shared": shared_embedding,
    "pictures": pictures,
}
"""Decoders that can be called step by step; the recurrent layer is `decoder`."""


def started_late() -> Model:
    """A second layer that starts from the first one's last state."""
    graph, y = decoded(return_state=True)
    spec = GRU(4, 4, **RS)
    return built(graph, [graph.add("second", spec, [y], states=[Edge("decoder", 1)])])


def last_everywhere() -> Model:
    """Every step reads the last state."""
    graph, y = decoded(return_state=True)
    return built(graph, [graph.add("second", Merge("add"), [y, Edge("decoder", 1)])])


def along_the_encoder() -> Model:
    """The decoder reads the encoder's sequence, a step each."""
    graph, _, states = start()
    spec = LSTM(4, 4, **RS)
    y = graph.add("decoder", spec, [Edge("encoder")], states=states)
    return built(graph, [y, graph.add("copy", Dense(2, 2), [Edge("target")])])


def bidirectional() -> Model:
    """A decoder that reads its target from both ends."""
    graph, y, states = start()
    half = LSTM(2, 4, **RS)
    spec = Bidirectional(half, replace(half, go_backwards=True))
    return built(graph, [graph.add("decoder", spec, [y], states=[*states, *states])])


def backwards() -> Model:
    """A decoder that reads its target from the end."""
    graph, y = decoded(go_backwards=True)
    return built(graph, [y])


def self_attention() -> Model:
    """The decoder's steps attend to each other."""
    graph, y = decoded()
    return built(graph, [graph.add("second", Attention(4, causal=True), [y, y])])


CAUSAL = Conv(4, 3, (3,), strides=(1,), padding="causal", dilation=(1,))

CROSSING: dict[str, tuple[Callable[[], Model], str]] = {
    "bidirectional": (bidirectional, "decoder"),
    "backwards": (backwards, "decoder"),
    "bidirectional above": (
        lambda: upper(Bidirectional(LSTM(4, 4, **RS), LSTM(4, 4, go_backwards=True, **RS))),
        "upper_0",
    ),
    "causal convolution": (lambda: upper(CAUSAL), "upper_0"),
    "reversed": (lambda: upper(Dense(4, 4), Reverse()), "upper_1"),
    "mean": (lambda: upper(GlobalPool("average")), "upper_0"),
    "every second step": (lambda: upper(Slice(0, step=2)), "upper_0"),
    "products so far": (lambda: upper(Along("cumprod", 0)), "upper_0"),
    "over the batch": (lambda: upper(Across("max")), "upper_0"),
    "softmax over time": (lambda: upper(Softmax(0)), "upper_0"),
    "self-attention": (self_attention, "second"),
    "state of another layer": (started_late, "second"),
    "last state at every step": (last_everywhere, "second"),
    "along the encoder": (along_the_encoder, "decoder"),
}
"""Graphs with a layer that needs other steps than its own, and that layer."""
