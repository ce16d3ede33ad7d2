r"""Places that many mistakes share, by name, so that a file of edits says each of them once.

A line such as `after rnn: {r} = -{r}` stands for rules, which this module writes: where the arrays
of a recurrent layer are taken, its recurrent kernel is negated in the next line.

>>> after_rnn("{r} = -{r}")[0].new
'\\g<0>\\n\\g<pad>\\g<r> = -\\g<r>'
"""

import re
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Rule:
    """Where an edit applies, and its new text.

    Attributes:
        old: a regular expression; `^` and `$` are those of a line.
        new: its new text, with groups as `re.Match.expand` takes them.
        programs: an expression for the names of the programs, "" for all.
        layers: the layers that the mistake concerns; those of the comment at the place if empty.
    """

    old: str
    new: str
    programs: str = ""
    layers: tuple[str, ...] = ()


Rules = tuple[Rule, ...]

ARRAYS = "nnx|linen|jax|numpy"
"""Programs whose input is an array of numpy or JAX, not a tensor."""
TWINS = """
    torch_state_dict_stack lstm_1 lstm_2
    torch_buffers_functional first second
    torch_module_list_dropout l0 l1
    torch_module_list_dropout l1 l2
    torch_gru_native gru gru_1
    torch_einsum_keras_layout lstm_a lstm_b
    torch_autoencoder squeeze unfold
    torch_encoder_decoder encoder decoder
    jax_scan lstm_1 lstm_2
    numpy_float64_stack one two
    numpy_masked lower upper
    numpy_rnn_projected s1 s2
"""
"""Programs, and two layers in each whose arrays have the same shapes."""


def after_rnn(code: str) -> Rules:
    """Code after the line that takes the arrays of a recurrent layer; they are {k}, {r} and {b}."""
    line = r"^(?P<pad> +)(?P<k>k\w?|kernel|W), (?P<r>r\w?|recurrent|U), (?P<b>b\w?|bias) = .+$"
    return (Rule(line, r"\g<0>\n\g<pad>" + grouped(code)),)


def after_head(code: str) -> Rules:
    """Code after the line that takes the arrays of a Dense or convolution: {k} and {b}."""
    line = r"^(?P<pad> +)(?P<k>k\w*|kernel|W\d), (?P<b>b\w*|bias) = .+$"
    return (Rule(line, r"\g<0>\n\g<pad>" + grouped(code)),)


def grouped(code: str) -> str:
    """Turns {k} into a reference to the group k."""
    return re.sub(r"\{(\w)\}", r"\\g<\1>", code)


def gates(words: str) -> Rules:
    """The gates of some arrays in another order: "1, 0, 2, 3 of k r b"."""
    order, arrays = words.split(" of ")
    make = f"order = [q * len({{r}}) + j for q in ({order}) for j in range(len({{r}}))]"
    names = [f"{{{a}}}" for a in arrays.split()]
    taken = ", ".join(name + "[..., order]" for name in names)
    return after_rnn(f"{make}; {', '.join(names)} = {taken}")


def unpacked(names: str) -> Rules:
    """The gates of an LSTM unpacked under other names: "f, i, g, o"."""
    letters = names.split(", ")
    quoted = ", ".join(f'"{a}"' for a in letters)
    return (
        Rule(r"\bi, f, g, o = ", f"{names} = "),
        Rule(r'enumerate\("ifgo"\)', f'enumerate("{"".join(letters)}")'),
        Rule(r'\("i", "f", "g", "o"\)', f"({quoted})"),
    )


def remove(attribute: str) -> Rules:
    """Lines that set one attribute, left out: random numbers stay there."""
    return (Rule(rf"^ +[\w.]+\.{attribute}(?:\.data)?(?:\.\w+_\(.*\)|\[:\] = .*| = .*)\n", ""),)


def twins(code: str) -> Rules:
    """Code at the head of `port` for two layers of the same shapes, {a} and {b}."""
    rules = []
    for row in TWINS.strip().splitlines():
        name, a, b = row.split()
        new = r"\g<0>\n    " + code.replace("{a}", a).replace("{b}", b)
        rules.append(Rule(r"^def port\(w\):.*$", new, f"^{name}$", (a, b)))
    return tuple(rules)


def at_input(torch: str, arrays: str, names: str = "x|series|source") -> Rules:
    """Code at the head of forward, for PyTorch and for arrays; X is the name of the input."""
    taken = rf"\((?:self, |params, )?(?P<x>{names})(?:, \w+)?\)"
    line = rf"^(?P<pad> *)def {{}}{taken}:  #: (?:input|source).*$"
    start, x = r"\g<0>\n\g<pad>    ", r"\g<x>"
    return (
        Rule(line.format("forward"), start + torch.replace("X", x), "torch"),
        Rule(line.format("(?:__call__|predict|forward)"), start + arrays.replace("X", x), ARRAYS),
    )


def at_ids(torch: str, arrays: str) -> Rules:
    """The same where the input is token ids."""
    return at_input(torch, arrays, "ids")


def pick(torch: str, arrays: str = "") -> Rules:
    """Another pick than the last step, for PyTorch and for arrays; S is the sequence."""
    h_n = r"(?s)(?<=\n)(?P<l> +out, \(?h_n[^\n]*\n +\w+ = )h_n(?:\[-1\]|\[0\]|\.squeeze\(0\))"
    tensor = torch.replace("S", r"\g<s>")
    return (
        Rule(r"\b(?P<s>out|x)\[:, -1(?:, :)?\]", tensor, "torch"),
        Rule(r"\b(?P<s>out)\.select\(1, -1\)", tensor, "torch"),
        Rule(h_n, r"\g<l>" + torch.replace("S", "out"), "torch(?!_packed)"),
        Rule(r"\b(?P<s>out|x)\[:, -1\]", (arrays or torch).replace("S", r"\g<s>"), ARRAYS),
    )


def relu(module: str, torch: str, jax: str, numpy: str) -> Rules:
    """Another function of E than the relu of a head."""
    e = r"\g<e>"
    torch, jax, numpy = (code.replace("E", e) for code in (torch, jax, numpy))
    return (
        Rule(r"(?:F|torch)\.relu\((?P<e>.+)\)(?=  #)", torch, "torch"),
        Rule(r"(?<== )(?P<e>self\.\w+\(y\))\.(?:relu\(\)|clamp\(min=0\))", torch, "torch"),
        Rule(r"nn\.ReLU\(\)", module, "torch"),
        Rule(r"(?:jax\.)?nn\.relu\((?P<e>.+)\)(?=  #)", jax, "nnx|linen"),
        Rule(r"np\.maximum\((?P<e>h .+), 0\)", numpy, "numpy"),
        Rule(r"(?P<e>\(y @ k \+ b\))\.clip\(min=0\)", numpy, "numpy"),
    )


def softmax(torch: str, arrays: str) -> Rules:
    """Another function of E than the softmax at the end."""
    torch, arrays = (code.replace("E", r"\g<e>") for code in (torch, arrays))
    return (
        Rule(r"(?<=return )(?:F|torch)\.softmax\((?P<e>.+), dim=-?1\)", torch, "torch"),
        Rule(r"(?<=return )(?P<e>.+)\.softmax\(dim=-1\)", torch, "torch"),
        Rule(r"self\.sm\((?P<e>.+)\)(?=  #)", torch, "rnn_tanh"),
        Rule(r"(?:jax\.)?nn\.softmax\((?P<e>.+), axis=-1\)", arrays, "nnx|linen"),
        Rule(r"(?<=return )softmax\((?P<e>.+)\)(?=  #)", arrays, "numpy_float32"),
    )


PLACES: dict[str, Callable[..., Rules]] = {
    "after rnn": after_rnn,
    "after head": after_head,
    "gates": gates,
    "unpacked": unpacked,
    "remove": remove,
    "twins": twins,
    "at input": at_input,
    "at ids": at_ids,
    "pick": pick,
    "relu": relu,
    "softmax": softmax,
}
