"""The command line. Exit status 0: done or equal; 1: compared and not equal; 2: cannot be done.

numpy is imported only inside `ended`, which reports errors: see `xlstm.frameworks.command_exit`.
"""

from __future__ import annotations

import argparse
import contextlib
import difflib
import gc
import importlib
import json
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

from xlstm._version import VERSION
from xlstm.cli.guard import run_guarded
from xlstm.errors import MissingFrameworkError, UsageError, XlstmError, printable
from xlstm.frameworks.command_exit import as_process, ended, limited, quiet_libraries, say, show
from xlstm.frameworks.crashes import CRASHED, importing

ARRAYS = "your own arrays, .npy, .npz or safetensors; once, or once per input of the model"


COLLECT = 100_000
"""New objects before Python's garbage collector runs: at its default of 700, it would walk through
thousands of permanent layers again and again."""


@contextlib.contextmanager
def _progress(text: str) -> Iterator[Callable[[str], None]]:
    """Shows the current activity on a terminal; returns the function that changes its text."""
    if not sys.stderr.isatty():
        yield lambda _text: None
        return
    from rich.console import Console
    from rich.markup import escape

    with Console(stderr=True).status(text) as status:
        yield lambda line: status.update(escape(printable(line)))


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    """Adds the path to an error of the system without one, such as a full disk during a write."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or os.fspath(path)
        raise


def _frameworks(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _print_json(data: Any) -> None:
    show(json.dumps(data, indent=1, allow_nan=False))


def _inspect(args: argparse.Namespace) -> int:
    from xlstm.cli.inspect import inspect
    from xlstm.files.keras.architecture import ReadOptions

    show(inspect(Path(args.file), ReadOptions(**_read_options(args)), args.to))
    return 0


def _read_options(args: argparse.Namespace) -> dict[str, Any]:
    """The options for facts that a file of weights alone does not contain."""
    return {
        name: getattr(args, name)
        for name in ("architecture", "keras_version", "kernel_layout", "until")
    }


def _run_file(path: str) -> None:
    """Runs a Python file of the user, which registers layers.

    Raises:
        UsageError: it cannot be read, or does not run to its end.
    """
    import runpy

    try:
        runpy.run_path(path)
    except XlstmError:
        raise
    except (Exception, SystemExit) as error:
        got = f"{type(error).__name__}: {error}"
        raise UsageError(f"--custom {path}", "a Python file that runs", got, "fix it") from error


def _source(args: argparse.Namespace, *, numbers: bool = True) -> Any:
    """The file; read, with or without its numbers, if the user sets options for it."""
    from xlstm.files.keras.architecture import ReadOptions
    from xlstm.reading.load import load, load_shapes

    options = _read_options(args)
    if all(value is None for value in options.values()):
        return args.file
    return load(args.file, **options) if numbers else load_shapes(args.file, ReadOptions(**options))


def _count(args: argparse.Namespace) -> int:
    from xlstm.counting.count import count
    from xlstm.counting.ledger import render_counts, render_tensors
    from xlstm.counting.operations.render import render_operations

    if args.flops and args.tensors:
        raise UsageError("count", "one table", "--flops and --tensors", "remove one of them")
    ledger = count(_source(args, numbers=False), operations=args.flops)
    if args.json:
        _print_json(ledger.to_json())
    elif ledger.operations is not None:
        show(render_operations(ledger.operations))
    else:
        show(render_tensors(ledger) if args.tensors else render_counts(ledger))
    return 0


def _explain(args: argparse.Namespace) -> int:
    from xlstm.counting.explain import explain
    from xlstm.files.atomic import write_file

    names = ("features", "units", *EXPLAINED)
    explanation = explain(
        args.layer, **{name: getattr(args, name) for name in names}, use_bias=not args.no_bias
    )
    if args.svg:
        with _named(Path(args.svg)):
            write_file(Path(args.svg), explanation.to_svg().encode())
    if args.json:
        _print_json(explanation.to_json())
    else:
        show(explanation.to_markdown() if args.md else explanation)
    return 0


EXPLAINED = "timesteps batch bidirectional layers projection peepholes reset_after".split()
"""Options of `explain` that the command line passes on unchanged."""


def _compared(args: argparse.Namespace, names: list[str], options: dict[str, Any]) -> Any:
    """The comparison; a ported folder is compared with its own code and its record."""
    from xlstm.files.keras.architecture import ReadOptions
    from xlstm.files.port_folder import half_port, has_port
    from xlstm.reading.ports import check_plain
    from xlstm.verification.folder import verify_folder
    from xlstm.verification.reconcile import reconcile

    path = Path(args.file)
    if has_port(path) or half_port(path):
        check_plain(path, ReadOptions(**_read_options(args)).names())
        own = {"trust": args.trust, "origin": args.origin}
        return verify_folder(path, names, args.inputs, **own, **options)
    for option, value in (("--trust", args.trust), ("--origin", args.origin)):
        if value:
            raise UsageError(option, "a ported folder", path.name, f"remove {option}")
    return reconcile(_source(args), names, args.inputs, **options)


def _memory(args: argparse.Namespace) -> dict[str, Any]:
    """The memory limit of a comparison, if the user sets one."""
    return {} if args.memory is None else {"memory": args.memory * 1e9}


def _add_memory(parser: argparse.ArgumentParser) -> None:
    more = "memory that the runs of a comparison may take, beside weights and frameworks; 1"
    parser.add_argument("--memory", type=float, metavar="GB", help=more)


def _verify(args: argparse.Namespace) -> int:
    from xlstm.frameworks import registry
    from xlstm.frameworks.imports import require

    names = args.frameworks or [n for n in registry.frameworks() if registry.adapter(n).installed]
    if not names:
        raise UsageError(
            "verify", "an installed framework", "none", "pip install 'xlstm-converter[all]'"
        )
    options = {
        name: getattr(args, name) for name in ("states", "gradients", "step", "thorough", "half")
    } | _memory(args)
    with _progress("comparing"):
        # others are imported when they run: a file that is refused, or is too large, needs none
        loud = [n for n in names if n == "keras" and n not in CRASHED]
        # a framework that cannot be imported is a line in the report; the others still run
        with contextlib.suppress(MissingFrameworkError):
            require(*(n for n in loud if registry.adapter(n).installed))
        report = _compared(args, names, options)
    if args.json:
        _print_json(report.to_json())
    else:
        show(report)
        show("equal up to rounding" if report.ok else "NOT shown to be equal")
    missing = report.missing or ([] if report.ran else ["no framework ran: see the report"])
    for line in missing:
        say(f"xlstm: {line}")
    return 2 if missing else 0 if report.ok else 1


def _diagnose(args: argparse.Namespace) -> int:
    from xlstm.diagnosis import diagnose

    with _progress("comparing") as tell:
        options = {"effort": args.effort, "progress": tell, **_memory(args)}
        found = diagnose(_source(args), _suspect(args), args.inputs, **options)
    if args.json:
        _print_json(found.to_json())
    else:
        show(found)
    return 0 if found.ok else 1


def _suspect(args: argparse.Namespace) -> Any:
    """The path, or the model that the model.py of a trusted folder builds."""
    from xlstm.files.port_folder import has_port
    from xlstm.porting.folder_code import own_object

    path = Path(args.suspect)
    if args.trust and not has_port(path):
        raise UsageError("--trust", "a ported folder", path.name, "remove --trust")
    return own_object(path) if args.trust else args.suspect


def _port(args: argparse.Namespace) -> int:
    from xlstm.cli.texts import render_port
    from xlstm.files.keras.architecture import ReadOptions
    from xlstm.frameworks import registry
    from xlstm.frameworks.imports import require
    from xlstm.porting.save import atomic_folder, check_target, check_written, write, write_report
    from xlstm.reading.load import opened
    from xlstm.reading.record import origin_of

    adapter = registry.adapter(args.to)
    folder = Path(args.output)
    check_target(folder, args.overwrite)
    verify = adapter.installed and not args.no_verify
    with opened(args.file, ReadOptions(**_read_options(args))) as model:
        if verify or (adapter.extra_files and adapter.installed):
            require(adapter.name)
        with _progress("porting"), _named(folder), atomic_folder(folder, args.overwrite) as work:
            report = write(model, work, adapter, origin_of(args.file, folder))
            if verify:
                from xlstm.verification.reconcile import of_folder

                check_written(model, work, adapter)
                report["verification"] = of_folder(work, adapter, **_memory(args))
                write_report(work, report)
        show(render_port(model, adapter, folder, report))
    found = report["verification"]
    return 0 if isinstance(found, str) or found["ok"] else 1


def _demo(_args: argparse.Namespace) -> int:
    from xlstm import demo
    from xlstm.cli.texts import render_demo
    from xlstm.frameworks import registry
    from xlstm.frameworks.imports import require
    from xlstm.frameworks.model_tensors import refusals
    from xlstm.reading.load import load
    from xlstm.verification.reconcile import reconcile

    adapters = {name: registry.adapter(name) for name in registry.frameworks()}
    model = load(demo.path())
    names = [n for n, found in adapters.items() if found.installed and not refusals(model, found)]
    with _progress("porting and comparing the example model"):
        require(*names)
        report = reconcile(demo.path(), names)
        memories = demo.recall(names)
    show(render_demo(report, memories))
    return 0 if report.ok else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="xlstm",
        description="Ports trained LSTMs between Keras, PyTorch and JAX/Flax, counts every "
        "parameter, and proves the ports equal up to rounding.",
        epilog="Exit status: 0 done or equal, 1 compared and not equal, 2 cannot.",
    )
    parser.add_argument("--version", action="version", version=f"xlstm-converter {VERSION}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    add = commands.add_parser

    found = add("inspect", help="content of a model file")
    _add_file(found)
    found.add_argument("--to", default="", metavar="FRAMEWORK", help="say how it ports each layer")
    found.set_defaults(run=_inspect)

    found = add("count", help="parameters in every framework, differences explained")
    _add_file(found)
    found.add_argument("--tensors", action="store_true", help="every tensor of every framework")
    work = "operations of every layer, and bytes of weights and states, instead of parameters"
    found.add_argument("--flops", action="store_true", help=work)
    found.add_argument("--json", action="store_true", help="one JSON document on stdout")
    found.set_defaults(run=_count)

    found = add("explain", help="the parameters of a layer, without a file")
    _add_explain(found)

    _add_port(add("port", help="write a model as code and weights of another framework"))

    found = add("verify", help="run the frameworks against the float64 reference")
    _add_file(found)
    found.add_argument("--frameworks", type=_frameworks, help="comma-separated; all installed")
    _add_verify(found)

    found = add("diagnose", help="where a second model differs from the first one, and why")
    _add_file(found)
    found.add_argument("suspect", metavar="B", help="a model file, a ported folder, named arrays")
    found.add_argument("--inputs", metavar="FILE", action="append", help=ARRAYS)
    _add_memory(found)
    longer = "how long to look for causes: 1 some seconds, 10 ten times as much, 0 not at all"
    found.add_argument("--effort", type=float, default=1.0, metavar="X", help=longer)
    own = "of a ported folder B: run its model.py, whatever it contains"
    found.add_argument("--trust", action="store_true", help=own)
    found.add_argument("--json", action="store_true", help="one JSON document on stdout")
    found.set_defaults(run=_diagnose)

    found = add("demo", help="port, count and prove the model that ships with xlstm")
    found.set_defaults(run=_demo)
    for found in commands.choices.values():
        found.set_defaults(parser=found)
    return parser


def _unknown(words: list[str], parser: argparse.ArgumentParser) -> str:
    """The error for words that a command does not take, with the nearest option that it has."""
    options = re.findall(r"--[\w-]+", parser.format_usage())
    near = difflib.get_close_matches(words[0].partition("=")[0], options, 1)
    return f"unrecognized arguments: {' '.join(words)}" + "".join(
        f"; did you mean {o}?" for o in near
    )


def _add_file(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="a model file or folder, or a ported folder")
    parser.add_argument(
        "--architecture", metavar="FILE", help="for weights alone: JSON, YAML or a whole model"
    )
    parser.add_argument("--keras-version", metavar="V", help="for weights alone: their Keras")
    parser.add_argument("--kernel-layout", help="tensorflow or theano: convolutions of Keras 1")
    own = "your Python file that calls xlstm.register_layer; it runs first"
    parser.add_argument("--custom", metavar="FILE.py", action="append", help=own)
    parser.add_argument("--until", metavar="LAYER", help="read only the part up to this layer")


def _add_verify(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--inputs", metavar="FILE", action="append", help=ARRAYS)
    hidden = "also outputs of recurrent layers at every step, and their last states"
    parser.add_argument("--states", action="store_true", help=hidden)
    slopes = "also gradients of every weight and of the inputs"
    parser.add_argument("--gradients", action="store_true", help=slopes)
    sgd = "also the change of every weight in one step of plain SGD"
    parser.add_argument("--step", action="store_true", help=sgd)
    more = "inputs of more lengths, batch sizes, masks, scales and seeds"
    parser.add_argument("--thorough", action="store_true", help=more)
    half = "also in bfloat16 and float16, with bounds of their own"
    parser.add_argument("--half", action="store_true", help=half)
    _add_memory(parser)
    own = "of a ported folder: run the recorded model.py, though xlstm would write another"
    parser.add_argument("--trust", action="store_true", help=own)
    first = "of a ported folder: the source file, if it has moved"
    parser.add_argument("--origin", metavar="FILE", help=first)
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")
    parser.set_defaults(run=_verify)


def _number(text: str) -> int:
    """A whole number; an error quotes a part of the text, which may have any length."""
    try:
        return int(text)
    except ValueError:
        shown = text if len(text) <= 40 else f"{text[:40]}..."
        raise argparse.ArgumentTypeError(f"invalid int value: {shown!r}") from None


def _add_explain(parser: argparse.ArgumentParser) -> None:
    layers = "LSTM, GRU, SimpleRNN, Dense, CuDNNLSTM or CuDNNGRU"
    parser.add_argument("layer", metavar="LAYER", help=layers)
    parser.add_argument("--features", type=_number, required=True, help="size of the input, m")
    parser.add_argument("--units", type=_number, required=True, help="size of the output, n")
    parser.add_argument("--timesteps", type=_number, help="sequence length; does not change counts")
    parser.add_argument("--batch", type=_number, help="batch size; does not change counts")
    parser.add_argument("--bidirectional", action="store_true", help="in both directions")
    parser.add_argument("--layers", type=_number, default=1, help="how many of them are stacked")
    parser.add_argument("--projection", type=_number, help="size an LSTM's h shrinks to")
    parser.add_argument("--peepholes", action="store_true", help="an LSTM's gates see its c")
    reset = "GRU's first form, of the paper and of Keras 1"
    parser.add_argument("--reset-before", dest="reset_after", action="store_false", help=reset)
    parser.add_argument("--no-bias", action="store_true", help="without biases")
    parser.add_argument("--md", action="store_true", help="Markdown")
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")
    parser.add_argument("--svg", metavar="FILE", help="a picture of the tensors, to scale")
    parser.set_defaults(run=_explain)


def _add_port(parser: argparse.ArgumentParser) -> None:
    _add_file(parser)
    parser.add_argument("--to", required=True, metavar="FRAMEWORK", help="torch, nnx, linen, keras")
    parser.add_argument("-o", "--output", required=True, metavar="FOLDER", help="new folder")
    parser.add_argument("--no-verify", action="store_true", help="write without running the port")
    _add_memory(parser)
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier port")
    parser.set_defaults(run=_port)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; the result is the exit status."""
    if argv is not None:
        return ended(lambda: _run(_parsed(argv)))
    return as_process(_whole)


def _whole() -> int:
    """The command of this process."""
    gc.set_threshold(COLLECT)
    args = _parsed(None)
    if args.command in ("inspect", "count", "explain") or getattr(args, "no_verify", False):
        # these multiply no matrices: the threads that numpy would start cost more than the command
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    scarce, again = limited(), args.command == "verify"
    if scarce or again:
        # without memory OpenBLAS ends its process, and C++ aborts it: run it in a child
        return run_guarded(lambda: ended(lambda: _quiet(args) if scarce else _run(args)), again)
    return _run(args)


def _quiet(args: argparse.Namespace) -> int:
    quiet_libraries()
    with importing():
        importlib.import_module("numpy")
    return _run(args)


def _parsed(argv: Sequence[str] | None) -> argparse.Namespace:
    args, unknown = _parser().parse_known_args(argv)
    if unknown:
        args.parser.error(_unknown(unknown, args.parser))
    return args


def _run(args: argparse.Namespace) -> int:
    with contextlib.suppress(AttributeError):  # a stdout that is no text file
        cast(Any, sys.stdout).reconfigure(errors="replace")
    for path in getattr(args, "custom", None) or ():
        _run_file(path)
    return int(args.run(args))


if __name__ == "__main__":
    sys.exit(main())
