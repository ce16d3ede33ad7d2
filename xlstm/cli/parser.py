"""The options of every command.

In: the functions that run them. Out: an `ArgumentParser`. Every command ends its help with two
examples, which the tests run.
"""

from __future__ import annotations

import argparse
import difflib
import re
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from xlstm._version import VERSION
from xlstm.frameworks.command_exit import CANNOT, on_terminal

Command = Callable[[argparse.Namespace], int]

OTHER = "a model file, a ported folder, or weights in a safetensors or .npz file"
"""Help of the second model of `diagnose` and `same`."""

ARRAYS = "your own arrays, .npy, .npz or safetensors; once, or once per input of the model"

EXAMPLES = {
    "inspect": ("xlstm inspect model.h5", "xlstm inspect model.keras --to torch"),
    "count": ("xlstm count model.h5", "xlstm count model.keras --frameworks keras,torch --json"),
    "explain": (
        "xlstm explain LSTM --features 1 --units 20",
        "xlstm explain GRU --features 64 --units 128 --md",
    ),
    "port": (
        "xlstm port model.h5 --to torch -o ported",
        "xlstm port model.keras --to nnx -o new/nnx --no-verify",
    ),
    "verify": (
        "xlstm verify ported",
        "xlstm verify model.h5 --frameworks keras,torch --details",
    ),
    "report": (
        "xlstm report model.h5 -o report.html",
        "xlstm report ported -o ported.html --quiet",
    ),
    "diagnose": (
        "xlstm diagnose model.keras ported",
        "xlstm diagnose model.keras ported --fix -o corrected",
    ),
    "same": ("xlstm same model.keras ported", "xlstm same old.h5 model.keras --json"),
    "fleet": (
        "xlstm fleet zoo --to torch -o ported --verify",
        "xlstm fleet report ported -o fleet.html",
    ),
    "new-adapter": (
        "xlstm new-adapter tinygrad",
        "xlstm new-adapter tinygrad -o adapters --json",
    ),
    "demo": ("xlstm demo", "xlstm demo --json"),
}
"""Command -> two examples, as its help shows them."""


class Parser(argparse.ArgumentParser):
    """A parser whose errors name the nearest command or option."""

    def error(self, message: str) -> NoReturn:
        """Prints the message and, if it names no near word, where help is; ends with status 2."""
        wrong = re.match(r"argument COMMAND: invalid choice: '(.*?)' \(choose from (.*)\)", message)
        if wrong:
            names = re.findall(r"[\w-]+", wrong[2])
            message = f"there is no command {wrong[1]!r}{nearest(wrong[1], names)}"
        lines = [f"{self.prog}: {message}"]
        lines += [] if "did you mean" in message else [f"{self.prog} --help shows all options"]
        self.exit(CANNOT, "".join(f"{on_terminal(line, sys.stderr)}\n" for line in lines))


def nearest(word: str, names: Sequence[str]) -> str:
    """Returns "; did you mean ...?" for a misspelt word, or "".

    >>> nearest("conut", ["count", "port"])
    '; did you mean count?'
    """
    near = difflib.get_close_matches(word, names, 1)
    return f"; did you mean {near[0]}?" if near else ""


def parsed(argv: Sequence[str] | None, commands: Mapping[str, Command]) -> argparse.Namespace:
    """Returns the arguments of a command line; without any, the help is shown.

    Raises:
        SystemExit: help was asked for, or a word is unknown.
    """
    parser = _parser(commands)
    words = sys.argv[1:] if argv is None else argv
    if not words:
        parser.print_help()
        parser.exit(0)
    args, unknown = parser.parse_known_args(words)
    if unknown:
        own = args.parser
        options = re.findall(r"--[\w-]+", own.format_usage())
        near = nearest(unknown[0].partition("=")[0], options)
        own.error(f"unrecognized arguments: {' '.join(unknown)}{near}")
    return args


def as_typed(args: argparse.Namespace) -> str:
    """Returns the command line of parsed arguments; options for screens alone are left out."""
    words = ["xlstm", args.command]
    for action in args.parser._actions:
        value = getattr(args, action.dest, None)
        if value in (None, action.default) or action.dest in ("json", "quiet", "verbose"):
            continue
        if not action.option_strings:
            words.append(value)
        elif action.nargs == 0:
            words.append(action.option_strings[-1])
        else:
            listed = value if isinstance(value, list) else [value]
            listed = [",".join(listed)] if action.dest == "frameworks" else listed
            words += [word for one in listed for word in (action.option_strings[0], f"{one}")]
    return shlex.join(words)


def _parser(commands: Mapping[str, Command]) -> argparse.ArgumentParser:
    parser = Parser(
        prog="xlstm",
        description="Ports trained LSTMs between Keras, PyTorch and JAX/Flax, counts every "
        "parameter, and proves the ports equal up to rounding.",
        epilog="Exit status: 0 done or equal, 1 compared and not equal, 2 cannot, 130 interrupted.",
    )
    parser.add_argument("--version", action="version", version=f"xlstm-converter {VERSION}")
    parser.add_argument("--completion", action=Completion, help="print a script for a shell")
    found = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (text, add) in OPTIONS.items():
        examples = "\n".join(f"  {line}" for line in EXAMPLES[name])
        own = found.add_parser(
            name,
            help=text,
            description=f"{text[0].upper()}{text[1:]}.",
            epilog=f"examples:\n{examples}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        add(own)
        _add_common(own)
        own.set_defaults(run=commands[name], parser=own)
    return parser


class Completion(argparse.Action):
    """Prints the completion script for a shell, made by shtab."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options, choices=["bash", "zsh", "tcsh"])

    def __call__(self, parser: argparse.ArgumentParser, _names: Any, shell: Any, *_: Any) -> None:
        try:
            import shtab
        except ImportError:
            parser.error("--completion needs shtab: pip install shtab")
        print(shtab.complete(parser, shell))  # noqa: T201
        parser.exit(0)


def _add_common(parser: argparse.ArgumentParser) -> None:
    """Adds the options that every command has."""
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")
    parser.add_argument("--quiet", action="store_true", help="the first line of the result only")
    more = "write to stderr what is read and run"
    parser.add_argument("-v", "--verbose", action="store_true", help=more)


def _frameworks(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise argparse.ArgumentTypeError("name at least one framework, such as torch")
    return names


def _named(text: str) -> str:
    """A name; an empty one is refused."""
    if not text:
        raise argparse.ArgumentTypeError("a name is missing")
    return text


def _add_frameworks(parser: argparse.ArgumentParser, usual: str) -> None:
    more = f"comma-separated, such as keras,torch; {usual} if left out"
    parser.add_argument("--frameworks", type=_frameworks, help=more)


def _add_details(parser: argparse.ArgumentParser, more: str) -> None:
    parser.add_argument("--details", action="store_true", help=more)


def _add_file(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="a model file or folder, or a ported folder")
    parser.add_argument(
        "--architecture",
        type=_named,
        metavar="FILE",
        help="for weights alone: JSON, YAML or a whole model",
    )
    parser.add_argument("--keras-version", metavar="V", help="for weights alone: their Keras")
    parser.add_argument("--kernel-layout", help="tensorflow or theano: convolutions of Keras 1")
    own = "your Python file that calls xlstm.register_layer; it runs first"
    parser.add_argument("--custom", type=_named, metavar="FILE.py", action="append", help=own)
    parser.add_argument(
        "--until", type=_named, metavar="LAYER", help="read only the part up to this layer"
    )


def _add_memory(parser: argparse.ArgumentParser) -> None:
    more = "memory for the runs of a comparison, besides weights and frameworks; usually 1"
    parser.add_argument("--memory", type=_size, metavar="GB", help=more)


def _add_inspect(parser: argparse.ArgumentParser) -> None:
    _add_file(parser)
    more = "say how this framework computes each layer"
    parser.add_argument("--to", type=_named, metavar="FRAMEWORK", help=more)


def _add_count(parser: argparse.ArgumentParser) -> None:
    _add_file(parser)
    _add_frameworks(parser, "all")
    parser.add_argument("--tensors", action="store_true", help="every tensor of every framework")
    work = "operations of every layer, and bytes of weights and states, instead of parameters"
    parser.add_argument("--flops", action="store_true", help=work)
    _add_details(parser, "every difference by layer; else one line for each reason")


def _number(text: str) -> int:
    """A whole number; an error quotes a part of the text, which may have any length."""
    try:
        return int(text)
    except ValueError:
        shown = text if len(text) <= 40 else f"{text[:40]}..."
        raise argparse.ArgumentTypeError(f"{shown!r} is no whole number") from None


def _size(text: str) -> float:
    """A size in GB; zero, a negative one or infinity is refused."""
    return _above(text, "a size above 0, in GB", lambda size: 0 < size < float("inf"))


def _effort(text: str) -> float:
    return _above(text, "a number from 0 on", lambda effort: 0 <= effort < float("inf"))


def _above(text: str, wanted: str, fits: Callable[[float], bool]) -> float:
    try:
        number = float(text)
    except ValueError:
        number = float("nan")
    if not fits(number):
        raise argparse.ArgumentTypeError(f"expected {wanted}, got {text[:40]!r}")
    return number


def _window(text: str) -> int | tuple[int, ...]:
    sizes = tuple(map(_number, re.split("[x,]", text)))
    return sizes if len(sizes) > 1 else sizes[0]


EXPLAINED = (
    "timesteps batch bidirectional layers projection peepholes reset_after kernel_size".split()
)
"""Options of `explain` that the command line passes on unchanged."""


def _add_explain(parser: argparse.ArgumentParser) -> None:
    layers = (
        "LSTM, GRU, SimpleRNN, Dense, CuDNNLSTM, CuDNNGRU, ConvLSTM1D, ConvLSTM2D, ConvLSTM3D or "
        "Bidirectional, in any case"
    )
    parser.add_argument("layer", metavar="LAYER", help=layers)
    parser.add_argument("--features", type=_number, required=True, help="size of the input, m")
    parser.add_argument("--units", type=_number, required=True, help="size of the output, n")
    parser.add_argument("--timesteps", type=_number, help="sequence length: for operations")
    parser.add_argument("--batch", type=_number, help="batch size: for operations")
    parser.add_argument("--bidirectional", action="store_true", help="in both directions")
    parser.add_argument("--layers", type=_number, default=1, help="number of stacked layers")
    parser.add_argument(
        "--projection", type=_number, help="size of an LSTM's output after its projection"
    )
    parser.add_argument(
        "--peepholes", action="store_true", help="the gates of an LSTM also read its cell state"
    )
    reset = "GRU's first form, of the paper and of Keras 1"
    parser.add_argument("--reset-before", dest="reset_after", action="store_false", help=reset)
    window = "size of a ConvLSTM's window, such as 3 or 3x5"
    parser.add_argument("--kernel-size", type=_window, metavar="K", help=window)
    parser.add_argument("--no-bias", action="store_true", help="without biases")
    parser.add_argument("--md", action="store_true", help="Markdown")
    parser.add_argument("--svg", metavar="FILE", help="write a picture of the tensors, to scale")


def _add_port(parser: argparse.ArgumentParser) -> None:
    _add_file(parser)
    targets = "torch, nnx, linen or keras"
    parser.add_argument("--to", type=_named, required=True, metavar="FRAMEWORK", help=targets)
    parser.add_argument(
        "-o", "--output", type=_named, required=True, metavar="FOLDER", help="new folder"
    )
    parser.add_argument("--no-verify", action="store_true", help="write without running the port")
    own = "also write tests and numbers for people without xlstm; the port itself need not run here"
    parser.add_argument("--with-tests", action="store_true", help=own)
    _add_memory(parser)
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier port")
    _add_details(parser, "all notes about the port")


def _add_verify(parser: argparse.ArgumentParser) -> None:
    _add_compared(parser)
    hidden = "also outputs of recurrent layers at every step, and their last states"
    parser.add_argument("--states", action="store_true", help=hidden)
    _add_comparison(parser)
    _add_details(parser, "also counts, single comparisons, and how the inputs were made")


def _add_report(parser: argparse.ArgumentParser) -> None:
    _add_compared(parser)
    page = "the page to write; its name ends in .html"
    parser.add_argument(
        "-o", "--output", type=_named, required=True, metavar="FILE.html", help=page
    )
    _add_comparison(parser)


def _add_compared(parser: argparse.ArgumentParser) -> None:
    """Adds the options that name files and frameworks of a comparison."""
    _add_file(parser)
    _add_frameworks(parser, "all that are installed")
    parser.add_argument("--inputs", type=_named, metavar="FILE", action="append", help=ARRAYS)


def _add_comparison(parser: argparse.ArgumentParser) -> None:
    """Adds the options that say how much is compared."""
    slopes = "also gradients of every weight and of the inputs"
    parser.add_argument("--gradients", action="store_true", help=slopes)
    sgd = "also the change of every weight in one step of plain SGD"
    parser.add_argument("--step", action="store_true", help=sgd)
    more = "inputs of more lengths, batch sizes, masks, scales and seeds"
    parser.add_argument("--thorough", action="store_true", help=more)
    half = "also in bfloat16 and float16, with limits of their own"
    parser.add_argument("--half", action="store_true", help=half)
    _add_memory(parser)
    own = "of a ported folder: run its model.py (the recorded one, if there is a report.json)"
    parser.add_argument("--trust", action="store_true", help=own)
    first = "of a ported folder: the source, a file or a folder, if it has moved"
    parser.add_argument("--origin", metavar="PATH", help=first)


def _add_diagnose(parser: argparse.ArgumentParser) -> None:
    _add_file(parser)
    parser.add_argument("suspect", metavar="B", help=OTHER)
    parser.add_argument("--inputs", type=_named, metavar="FILE", action="append", help=ARRAYS)
    _add_memory(parser)
    longer = "how long to look for causes: 1 some seconds, 10 ten times as much, 0 not at all"
    parser.add_argument("--effort", type=_effort, default=1.0, metavar="X", help=longer)
    own = "of a ported folder B: run its model.py, whatever it contains"
    parser.add_argument("--trust", action="store_true", help=own)
    fix = "give B the weights and options of FILE; if it is equal then, write it to -o FOLDER"
    parser.add_argument("--fix", action="store_true", help=fix)
    parser.add_argument(
        "-o", "--output", type=_named, metavar="FOLDER", help="new folder for --fix"
    )


def _add_same(parser: argparse.ArgumentParser) -> None:
    _add_file(parser)
    parser.add_argument("suspect", metavar="B", help=OTHER)
    _add_memory(parser)


def _seconds(text: str) -> float:
    return _above(text, "a time above 0, in seconds", lambda time: 0 < time < float("inf"))


def _count(text: str) -> int:
    """A whole number from 1 on."""
    number = _number(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1 on, got {number}")
    return number


def _add_fleet(parser: argparse.ArgumentParser) -> None:
    found = (
        "model files, folders, globs, a manifest (.csv, .jsonl) or URLs such as s3://bucket/zoo; "
        "or: report TARGET, for a summary of what is there"
    )
    parser.add_argument("sources", metavar="SOURCE", type=_named, nargs="+", help=found)
    targets = "torch, nnx, linen or keras"
    parser.add_argument("--to", type=_named, metavar="FRAMEWORK", help=targets)
    where = "folder or URL for the ports and their table; of report: the page FILE.html"
    parser.add_argument("-o", "--output", type=_named, metavar="TARGET", help=where)
    parser.add_argument("--verify", action="store_true", help="compare each port with the source")
    dask = "use the workers of this Dask scheduler, such as tcp://10.0.0.1:8786"
    parser.add_argument("--scheduler", type=_named, metavar="ADDRESS", help=dask)
    usual = "processes on this machine; as many as it has cores if left out"
    parser.add_argument("--workers", type=_count, metavar="N", help=usual)
    plan = "say what would be done, and how long it may take"
    parser.add_argument("--dry-run", action="store_true", help=plan)
    again = "also do models again whose content was refused before"
    parser.add_argument("--retry-refused", action="store_true", help=again)
    limit = "time for one model, usually 120; its worker is ended after it"
    parser.add_argument("--seconds", type=_seconds, metavar="S", help=limit)
    _add_memory(parser)
    most = "largest model file; larger ones are refused, usually 4.3"
    parser.add_argument("--largest", type=_size, metavar="GB", help=most)


def _add_new_adapter(parser: argparse.ArgumentParser) -> None:
    name = "the framework's import name, such as tinygrad"
    parser.add_argument("name", metavar="NAME", help=name)
    usual = "new folder, xlstm-NAME if left out"
    parser.add_argument("-o", "--output", type=_named, metavar="FOLDER", help=usual)


def _add_nothing(_parser: argparse.ArgumentParser) -> None:
    pass


OPTIONS: dict[str, tuple[str, Callable[[argparse.ArgumentParser], None]]] = {
    "inspect": ("content of a model file", _add_inspect),
    "count": ("parameters in every framework, differences explained", _add_count),
    "explain": ("the parameters of a layer, without a file", _add_explain),
    "port": ("write a model as code and weights of another framework", _add_port),
    "verify": ("run the frameworks against the float64 reference", _add_verify),
    "report": ("one HTML page about a comparison, to look at and to pass on", _add_report),
    "diagnose": ("where a second model differs from the first one, and why", _add_diagnose),
    "same": ("are two files the same model, up to layout and framework", _add_same),
    "fleet": ("port many models, on all cores or a Dask cluster", _add_fleet),
    "new-adapter": ("write the skeleton of an adapter for a new framework", _add_new_adapter),
    "demo": ("port, count and prove the model that ships with xlstm", _add_nothing),
}
"""Command -> its line of help, and the function that adds its options."""
