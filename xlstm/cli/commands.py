"""The functions that run the commands. In: parsed arguments. Out: an exit status.

Checks come first: files and arguments are read before any framework is imported. Imports of numpy
and of the rest of xlstm are inside the functions, where errors become one line.
"""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from xlstm.cli.flags import as_flags
from xlstm.cli.parser import EXPLAINED, Command, as_typed
from xlstm.cli.screen import progress, show_json, show_result
from xlstm.errors import MissingFrameworkError, UsageError, XlstmError, no_such_file, printable
from xlstm.frameworks.command_exit import CANNOT, say, show
from xlstm.frameworks.crashes import CRASHED


def _print(args: argparse.Namespace, data: Callable[[], Any], text: Callable[[], str]) -> None:
    """Prints a result that is no comparison, as JSON or text."""
    if args.json:
        show_json(data())
    else:
        show(as_flags(text().partition("\n")[0] if args.quiet else text()))


def _print_comparison(args: argparse.Namespace, ok: bool, data: Any, text: Any) -> int:
    """Prints a comparison, as JSON or text; returns its status."""
    if args.json:
        show_json(data())
    else:
        show_result(as_flags(text().partition("\n")[0] if args.quiet else text()), ok)
    return 0 if ok else 1


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    """Adds the path to an error of the system without one, such as a full disk during a write."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or os.fspath(path)
        raise


def _read_options(args: argparse.Namespace) -> dict[str, Any]:
    """The options for facts that a file of weights alone does not contain."""
    return {
        name: getattr(args, name)
        for name in ("architecture", "keras_version", "kernel_layout", "until")
    }


def _source(args: argparse.Namespace, *, numbers: bool = True) -> Any:
    """The file; read, with or without its numbers, if the user sets options for it."""
    from xlstm.files.keras.architecture import ReadOptions
    from xlstm.reading.load import load, load_shapes

    options = _read_options(args)
    if all(value is None for value in options.values()):
        return args.file
    return load(args.file, **options) if numbers else load_shapes(args.file, ReadOptions(**options))


def _check_there(*paths: str) -> None:
    """Raises for a file that is not there, before numpy and the readers of files are imported.

    Raises:
        FileError: no such file.
    """
    for path in paths:
        # a path that the system refuses is refused by the readers, with its reason
        with contextlib.suppress(OSError, ValueError):
            if not os.path.lexists(path):
                raise no_such_file(path)


def _check_source(args: argparse.Namespace) -> None:
    """Raises for a file or arrays that cannot be read, before any framework is imported."""
    from xlstm.files.keras.architecture import ReadOptions
    from xlstm.reading.load import load_shapes
    from xlstm.verification.user_inputs import arrays_for

    model = load_shapes(args.file, ReadOptions(**_read_options(args)))
    if args.inputs:
        arrays_for(model, args.inputs)


def inspect(args: argparse.Namespace) -> int:
    """`xlstm inspect`."""
    _check_there(args.file)
    from xlstm.cli.inspect import examine
    from xlstm.files.keras.architecture import ReadOptions

    found = examine(Path(args.file), ReadOptions(**_read_options(args)), args.to or "")
    _print(args, found.to_json, found.text)
    return 0


def count(args: argparse.Namespace) -> int:
    """`xlstm count`."""
    _check_there(args.file)
    from xlstm.counting.count import count as ledger_of
    from xlstm.counting.ledger import render_counts, render_tensors
    from xlstm.counting.operations.render import render_operations
    from xlstm.rendering.tables import to_text

    if args.flops and args.tensors:
        raise UsageError("count", "one table", "--flops and --tensors", "remove one of them")
    ledger = ledger_of(_source(args, numbers=False), args.frameworks, operations=args.flops)

    def text() -> str:
        said = [printable(f"warning: {line}") for line in ledger.warnings]
        if ledger.operations is not None:
            return to_text(render_operations(ledger.operations), *said)
        if args.tensors:
            return to_text(render_tensors(ledger), *said)
        return to_text(render_counts(ledger, details=args.details), *said)

    _print(args, ledger.to_json, text)
    return 0


STDOUT = ("-", "/dev/stdout")
"""Names of stdout as a file; a second descriptor of it would overwrite what the first one wrote."""


def explain(args: argparse.Namespace) -> int:
    """`xlstm explain`."""
    from xlstm.counting.explain import explain as explanation_of
    from xlstm.counting.render import counts_line

    if args.svg is not None:
        _check_picture(args.svg)
    names = ("features", "units", *EXPLAINED)
    explanation = explanation_of(
        args.layer, **{name: getattr(args, name) for name in names}, use_bias=not args.no_bias
    )
    if args.svg is not None:
        _write_picture(args, explanation.to_svg())
    text = explanation.to_markdown if args.md else explanation.__str__
    if args.quiet:
        text = lambda: counts_line(explanation)  # noqa: E731
    _print(args, explanation.to_json, text)
    return 0


def _check_picture(name: str) -> None:
    """Raises UsageError for a file that a picture cannot be written to.

    Raises:
        UsageError: as `_check_new`; devices such as stdout may have any name.
    """
    path = Path(name)
    if name in STDOUT or (name and path.exists() and not path.is_file()):  # folders fail later
        return
    _check_new("--svg", name, ".svg")


def _check_new(option: str, name: str, suffix: str) -> None:
    """Raises UsageError for a name that a new file of one type cannot have.

    Raises:
        UsageError: no name, another suffix, or a folder that does not exist.
    """
    if not name:
        want, do = "the name of a file", "name one, or - for stdout"
        raise UsageError(option, want, "an empty one", do)
    path = Path(name)
    if path.suffix.lower() != suffix:
        got = f"a file of type {path.suffix}" if path.suffix else "a name without a suffix"
        want = f"a name that ends in {suffix}"
        raise UsageError(option, want, got, f"name {path.stem}{suffix}")
    if not path.parent.exists():
        do = f"create it: mkdir -p {path.parent}"
        raise UsageError(option, "a folder that exists", f"no folder {path.parent}", do)


def _write_picture(args: argparse.Namespace, picture: str) -> None:
    """Writes a picture to its file, and says so on stderr; or prints it."""
    from xlstm.files.atomic import write_file

    if args.svg in STDOUT:
        show(picture)
        return
    with _named(Path(args.svg)):
        write_file(Path(args.svg), picture.encode())
    if not args.quiet:
        say(f"xlstm: picture written to {args.svg}")


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


def _names(args: argparse.Namespace) -> list[str]:
    """The frameworks to compare: those of the user, or all that are installed."""
    from xlstm.frameworks import registry

    if args.frameworks:
        return registry.canonicals(args.frameworks)
    names = [n for n in registry.frameworks() if registry.adapter(n).installed]
    if not names:
        do = "pip install 'xlstm-converter[all]'"
        raise UsageError("verify", "an installed framework", "none", do)
    return names


def _comparison(args: argparse.Namespace, **options: Any) -> Any:
    """The comparison of `verify` and `report`; files and arrays are checked first."""
    parts = ("gradients", "step", "thorough", "half")
    options |= {name: getattr(args, name) for name in parts} | _memory(args)
    with progress("reading", quiet=args.quiet or args.verbose) as tell:
        _check_there(args.file, *(args.inputs or ()))
        names = _names(args)
        if not half(args):
            _check_source(args)
        _import_keras(names, tell)
        return _compared(args, names, {**options, "progress": tell})


def _status(found: Any, status: int) -> int:
    """The exit status of a comparison; names frameworks that did not run."""
    missing = found.missing or ([] if found.ran else ["no framework ran: see the report"])
    for line in missing:
        say(f"xlstm: {line}")
    return CANNOT if missing else status


def verify(args: argparse.Namespace) -> int:
    """`xlstm verify`."""
    found = _comparison(args, states=args.states)
    text = lambda: found.text(args.details)  # noqa: E731
    return _status(found, _print_comparison(args, found.ok, found.to_json, text))


def report(args: argparse.Namespace) -> int:
    """`xlstm report`."""
    page = Path(args.output)
    _check_new("-o", args.output, ".html")
    from xlstm.files.atomic import check_writable

    with _named(page):
        check_writable(page)
    found = _comparison(args, states=True)
    with _named(page):
        found.save_html(page, args.file, as_typed(args))
    data = {"ok": found.ok, "verdict": found.summary(), "report": args.output}
    text = f"{printable(found.summary())}\nThe report is in {printable(args.output)}."
    return _status(found, _print_comparison(args, found.ok, lambda: data, lambda: text))


def _import_keras(names: list[str], tell: Callable[[str], None]) -> None:
    """Imports Keras, whose backend may be refused, before the work of the comparison.

    Others are imported when they run: a file that is refused, or is too large, needs none.
    """
    from xlstm.frameworks import registry
    from xlstm.frameworks.imports import require

    if "keras" in names and "keras" not in CRASHED and registry.adapter("keras").installed:
        tell("importing Keras")
        # a framework that cannot be imported is a line in the report; the others still run
        with contextlib.suppress(MissingFrameworkError):
            require("keras")


def half(args: argparse.Namespace) -> bool:
    """True for a folder that is a part of a port: the comparison says what it lacks."""
    from xlstm.files.port_folder import half_port

    return bool(half_port(Path(args.file)))


def diagnose(args: argparse.Namespace) -> int:
    """`xlstm diagnose`."""
    if bool(args.fix) != bool(args.output):
        got, do = ("--fix alone", "add -o FOLDER") if args.fix else ("-o alone", "add --fix")
        raise UsageError("diagnose", "--fix -o FOLDER", got, do)
    with progress("reading", quiet=args.quiet or args.verbose) as tell:
        _check_there(args.file, args.suspect, *(args.inputs or ()))
        options = {"effort": args.effort, "progress": tell, **_memory(args)}
        if args.fix:
            return _fix(args, options)
        from xlstm.diagnosis import diagnose as diagnosis_of
        from xlstm.rendering.tables import to_text

        found = diagnosis_of(_source(args), _suspect(args), args.inputs, **options)
    # a line for each mistake: in Python its length is the reader's affair
    return _print_comparison(args, found.ok, found.to_json, lambda: to_text(str(found)))


def _fix(args: argparse.Namespace, options: dict[str, Any]) -> int:
    """Corrects B and writes it; what has to be changed in code by hand is said."""
    from xlstm.diagnosis.repair import repair
    from xlstm.porting.save import check_target

    folder = Path(args.output)
    check_target(folder, overwrite=False)  # before the work, not after it
    found = repair(_source(args), _suspect(args), args.inputs, **options)
    written = not found.before.ok and (found.ok or (args.trust and bool(found.changed)))
    line = "nothing was written"
    if written:
        with _named(folder):
            files = ", ".join(sorted(file.name for file in found.save(folder).iterdir()))
        line = f"written: {folder} ({files})"
    data = lambda: {**found.to_json(), "folder": str(folder) if written else None}  # noqa: E731
    return _print_comparison(args, found.ok, data, lambda: f"{found}\n{line}")


def same(args: argparse.Namespace) -> int:
    """`xlstm same`."""
    with progress("reading", quiet=args.quiet or args.verbose) as tell:
        _check_there(args.file, args.suspect)
        from xlstm.diagnosis.same import same as relation
        from xlstm.rendering.tables import to_text

        found = relation(_source(args), args.suspect, progress=tell, **_memory(args))
    return _print_comparison(args, found.ok, found.to_json, lambda: to_text(str(found)))


def _suspect(args: argparse.Namespace) -> Any:
    """The path, or the model that the model.py of a trusted folder builds."""
    from xlstm.files.port_folder import has_port
    from xlstm.porting.folder_code import own_object

    path = Path(args.suspect)
    if args.trust and not has_port(path):
        raise UsageError("--trust", "a ported folder", path.name, "remove --trust")
    return own_object(path) if args.trust else args.suspect


def port(args: argparse.Namespace) -> int:
    """`xlstm port`."""
    with progress("reading", quiet=args.quiet or args.verbose) as tell:
        _check_there(args.file)
        from xlstm.cli.port import port_file

        folder = Path(args.output)
        with _named(folder):
            found = port_file(
                args.file,
                args.to,
                folder,
                read=_read_options(args),
                overwrite=args.overwrite,
                verified=not args.no_verify,
                with_tests=args.with_tests,
                options={**_memory(args), "progress": tell},
            )
    text = lambda: found.text(args.details)  # noqa: E731
    return _print_comparison(args, found.ok, found.to_json, text)


def fleet(args: argparse.Namespace) -> int:
    """`xlstm fleet`."""
    from xlstm.cli.fleet import check, port_fleet, report_fleet

    reports = check(args)
    if reports and args.output:
        from xlstm.files.atomic import check_writable

        _check_new("-o", args.output, ".html")
        with _named(Path(args.output)):
            check_writable(Path(args.output))
    with progress("fleet", quiet=args.quiet or args.verbose, clock=False) as tell:
        found = report_fleet(args, tell) if reports else port_fleet(args, tell)
    return _print_comparison(args, found.ok, found.to_json, found.text)


def new_adapter(args: argparse.Namespace) -> int:
    """`xlstm new-adapter`."""
    from xlstm.testing.new_adapter import new_adapter as write_skeleton

    folder = None if args.output is None else Path(args.output)
    with _named(folder or Path(f"xlstm-{args.name}")):
        found = write_skeleton(args.name, folder)
    _print(args, found.to_json, found.text)
    return 0


def demo(args: argparse.Namespace) -> int:
    """`xlstm demo`."""
    from xlstm import demo as example
    from xlstm.cli.texts import render_demo
    from xlstm.frameworks import registry
    from xlstm.frameworks.imports import require
    from xlstm.frameworks.model_tensors import refusals
    from xlstm.reading.load import load
    from xlstm.verification.reconcile import reconcile

    model = load(example.path())
    with progress("reading", quiet=args.quiet or args.verbose) as tell:
        adapters = [*map(registry.adapter, registry.frameworks())]
        names = [one.name for one in adapters if one.installed and not refusals(model, one)]
        missing = {one.title: one.install_command for one in adapters if not one.installed}
        tell("importing frameworks")
        require(*names)
        report = reconcile(example.path(), names, progress=tell)
        memories = example.recall(names)
    text = lambda: render_demo(report, memories, missing)  # noqa: E731
    return _print_comparison(args, report.ok, report.to_json, text)


def run_file(path: str) -> None:
    """Runs a Python file of the user, which registers layers.

    Raises:
        UsageError: it cannot be read, or does not run to its end.
    """
    import runpy

    if not os.path.exists(path):
        raise UsageError("--custom", "a Python file", f"no file {path}", "check the path")
    try:
        runpy.run_path(path)
    except XlstmError:
        raise
    except (Exception, SystemExit) as error:
        got, do = f"{type(error).__name__}: {error}", "correct the file"
        raise UsageError(f"--custom {path}", "a Python file that runs", got, do) from error


COMMANDS: dict[str, Command] = {
    "inspect": inspect,
    "count": count,
    "explain": explain,
    "port": port,
    "verify": verify,
    "report": report,
    "diagnose": diagnose,
    "same": same,
    "fleet": fleet,
    "new-adapter": new_adapter,
    "demo": demo,
}
"""Command -> the function that runs it."""
