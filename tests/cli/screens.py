"""Runs every command on terminals of several widths and piped, and checks each screen.

    python tests/cli/screens.py [--models N] [--match REGEX] [--show]

Each width is one child whose stdout and stderr are pseudo-terminals (pipes for `piped`). It runs
all commands, so frameworks are imported once a width. Found faults, the exit status is 1:

- a line longer than the terminal (60 to 140 columns are used), or than 100 columns when piped;
- a word of the widest screen that is not whole on another one;
- a colour on a pipe, or with NO_COLOR; none on a terminal where a comparison has a result.

Models are those of XLSTM_CORPUS, or three of tests/data.
"""

from __future__ import annotations

import argparse
import fcntl
import itertools
import json
import os
import pty
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import termios
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.cells import cell_len

ROOT = Path(__file__).parents[2]
DATA = ROOT / "tests" / "data"
SMALL = ("k224/gru.h5", "k212/stacked.h5", "k3/seq2seq.keras")
REAL = (
    "k2.6-char-gru/*.h5",
    "k2.4-gesture-lstm-relu/*.h5",
    "k2.1-rasa-masking-lstm/keras_model.h5",
)
"""Models of the corpus; each has an era of its own, with masks, relu and embeddings."""

PIPED, WIDTHS = 0, (60, 80, 120, 200)
USUAL, WIDEST = 100, 140
COLOUR, CONTROL = re.compile(r"\x1b\[[0-9;]*m"), re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
NARROW = " Too narrow for: "
MARK = "\x1e"

CHILD = """
import json, sys
from xlstm.cli.main import main
for words in json.load(open(sys.argv[1])):
    try:
        status = main(words)
    except SystemExit as left:
        status = left.code
    for stream in (sys.stdout, sys.stderr):
        stream.write(f"\\x1e{status}\\x1e")
        stream.flush()
"""
"""Runs each command of a file in turn; writes a mark with its status to both streams."""

TORCH = ("--frameworks", "torch")
LIGHT = (
    ("inspect", "MODEL"),
    ("inspect", "MODEL", "--to", "torch"),
    ("count", "MODEL"),
    ("count", "MODEL", "--details"),
    ("count", "MODEL", "--flops"),
    ("count", "MODEL", "--tensors"),
    ("port", "MODEL", "--to", "nnx", "--no-verify", "--overwrite", "-o", "unverified"),
)
HEAVY = (
    ("port", "MODEL", "--to", "torch", "--overwrite", "-o", "ported"),
    ("verify", "MODEL"),
    ("verify", "MODEL", "--details", *TORCH, "--states", "--gradients", "--step"),
    ("verify", "ported", *TORCH),
    ("report", "MODEL", *TORCH, "-o", "report.html"),
    ("diagnose", "MODEL", "ported"),
    ("diagnose", "MODEL", "unverified", "--effort", "0"),
    ("same", "MODEL", "unverified"),
)
COMMANDS = tuple(
    "inspect count explain port verify report diagnose same fleet new-adapter demo".split()
)
SHAPE = ("--features", "1", "--units", "20")
ONCE = (
    (),
    ("--help",),
    *((name, "--help") for name in COMMANDS),
    ("explain", "LSTM", *SHAPE),
    ("explain", "GRU", *SHAPE, "--bidirectional", "--layers", "2"),
    ("explain", "ConvLSTM2D", *SHAPE, "--kernel-size", "3"),
    ("explain", "LSTM", *SHAPE, "--md"),
)
"""Commands without a model."""

ERRORS = (
    ("conut", "MODEL"),
    ("count", "missing.h5"),
    ("count", "."),
    ("count", "empty.h5"),
    ("inspect", "text.h5"),
    ("count", "MODEL", "--jsn"),
    ("count", "MODEL", "--frameworks", "torhc"),
    ("inspect", "MODEL", "--until", "nothing"),
    ("explain", "Lambda", *SHAPE),
    ("explain", "LSTM", "--features", "0", "--units", "20"),
    ("port", "MODEL", "--to", "jax", "-o", "out"),
    ("port", "MODEL", "--to", "torch", "-o", "text.h5"),
    ("verify", "missing.h5"),
    ("verify", "MODEL", "--inputs", "text.h5"),
    ("diagnose", "MODEL", "missing"),
    ("fleet", "missing", "--to", "torch", "-o", "out"),
    ("new-adapter", "torch"),
    ("new-adapter", "../evil"),
)


@dataclass(frozen=True)
class Screen:
    """The output of one command.

    Attributes:
        words: the command line.
        out: of stdout.
        err: of stderr, where progress is shown.
        status: of the command.
    """

    words: tuple[str, ...]
    out: str
    err: str
    status: int


def screens(
    jobs: Sequence[tuple[str, ...]], width: int, folder: Path, **variables: str
) -> list[Screen]:
    """Runs commands in one child, on terminals of a width or, for PIPED, on pipes."""
    listed = folder / "jobs.json"
    listed.write_text(json.dumps(jobs))
    hidden = ("COLUMNS", "NO_COLOR", "FORCE_COLOR", "XLA_FLAGS")
    known = {name: value for name, value in os.environ.items() if name not in hidden}
    paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    environment = {**known, "PYTHONPATH": paths, "TERM": "xterm-256color", **variables}
    pairs = [_pair(width) for _stream in range(2)]
    process = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(listed)],
        cwd=folder,
        env=environment,
        stdout=pairs[0][1],
        stderr=pairs[1][1],
    )
    for _reader, writer in pairs:
        os.close(writer)
    texts = _read([reader for reader, _writer in pairs])
    process.wait()
    (out, statuses), (err, _same) = map(_parted, texts)
    if len(out) != len(jobs) or len(err) != len(jobs):
        raise SystemExit(f"the child ended early:\n{texts[1][-2000:]}")
    return [Screen(*one) for one in zip(map(tuple, jobs), out, err, statuses, strict=True)]


def _pair(width: int) -> tuple[int, int]:
    """Returns descriptors to read from and to write to."""
    if width == PIPED:
        return os.pipe()
    reader, writer = pty.openpty()
    fcntl.ioctl(writer, termios.TIOCSWINSZ, struct.pack("HHHH", 40, width, 0, 0))
    return reader, writer


def _read(readers: Sequence[int]) -> list[str]:
    """Returns the texts of descriptors, read side by side."""
    found = {reader: bytearray() for reader in readers}

    def drain(reader: int) -> None:
        try:
            while part := os.read(reader, 65536):
                found[reader] += part
        except OSError:  # a terminal whose writer is gone
            pass
        os.close(reader)

    threads = [threading.Thread(target=drain, args=(reader,)) for reader in readers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [bytes(text).decode().replace("\r\n", "\n") for text in found.values()]


def _parted(text: str) -> tuple[list[str], list[int]]:
    """Splits the text of a child at its marks."""
    parts = text.split(MARK)
    return parts[:-1:2], [int(status) for status in parts[1::2]]


def too_long(screen: Screen, width: int) -> Iterator[str]:
    """Yields lines of stdout and messages of stderr that are longer than the screen."""
    piped = width == PIPED
    room = USUAL if piped else width
    texts = [] if "--md" in screen.words else [screen.out]
    texts += [] if piped else [_last(screen.err)]  # a message on a pipe is one line
    for text in texts:
        yield from (line for line in COLOUR.sub("", text).split("\n") if cell_len(line) > room)


def _last(text: str) -> str:
    """Returns what stays on a terminal: progress is shown and taken away again."""
    rows, row, column = [""], 0, 0
    for part in re.split(r"(\x1b\[[0-9;?]*[A-Za-z]|\r|\n)", text):
        if part == "\n":
            row, column = row + 1, 0
            rows += [""] * (row == len(rows))
        elif part == "\r":
            column = 0
        elif part.startswith("\x1b") and part.endswith("A"):
            row = max(row - int(part[2:-1] or 1), 0)
        elif part == "\x1b[2K":
            rows[row] = ""
        elif not part.startswith("\x1b"):
            rows[row] = rows[row][:column].ljust(column) + part + rows[row][column + len(part) :]
            column += len(part)
    return "\n".join(rows)


def _words(screen: Screen) -> Counter[str]:
    text = CONTROL.sub("", f"{screen.out}\n{_last(screen.err)}")
    return Counter(word for word in text.split() if not set(word) <= set("─|-"))


def cut(screen: Screen, widest: Screen, width: int) -> Iterator[str]:
    """Yields words of the widest screen that are not whole here; longer ones than lines are cut.

    A screen that says which columns it has no room for may lack their words.
    """
    lines = CONTROL.sub("", screen.out).splitlines()
    narrow = any(line.startswith(NARROW) for line in lines)
    for word in _words(widest) - _words(screen):
        short = cell_len(word) <= (width or USUAL) // 2 and not re.fullmatch(r"[\d.]+", word)
        if short and (not narrow or _split(word, lines)):
            yield word


def _split(word: str, lines: Sequence[str]) -> bool:
    """True if a line ends with a part of a word, and the next one begins with the rest."""
    return any(
        f" {line}".endswith(f" {word[:size]}") and f"{after.strip()} ".startswith(f"{word[size:]} ")
        for line, after in itertools.pairwise(lines)
        for size in range(1, len(word))
    )


COMPARED = ("verify", "report", "diagnose", "same", "demo")


def wrong_colours(screen: Screen, plain: bool) -> Iterator[str]:
    """Yields a line for colours that should not be there, or that are missing."""
    colours = COLOUR.findall(screen.out + screen.err) if plain else COLOUR.findall(screen.out)
    if plain and colours:
        yield f"colour {colours[0]!r} where none may be"
    compared = screen.words[:1] in [(name,) for name in COMPARED] and "--help" not in screen.words
    if not plain and compared and screen.status < 2 and not colours:
        yield "no colour on a terminal"


def faults(
    jobs: Sequence[tuple[str, ...]], folder: Path, widths: Sequence[int] = WIDTHS
) -> Iterator[str]:
    """Yields a line for each fault of the screens of commands, at all widths and piped."""
    shown = {width: screens(jobs, width, folder) for width in (*widths, PIPED)}
    widest = shown[widths[-1]]
    for width, every in shown.items():
        for screen, wide in zip(every, widest, strict=True):
            yield from _faults(screen, wide, width)
    once = [words for words in jobs if words[:1] != ("verify",) or words[2:]]  # no second long run
    for screen in screens(once, widths[0], folder, NO_COLOR="1"):
        yield from _named(screen, widths[0], "NO_COLOR", wrong_colours(screen, plain=True))


def _faults(screen: Screen, wide: Screen, width: int) -> Iterator[str]:
    yield from _named(screen, width, "too long", too_long(screen, width))
    yield from _named(screen, width, "cut", cut(screen, wide, width))
    yield from _named(screen, width, "", wrong_colours(screen, plain=width == PIPED))
    if "Traceback" in screen.err or screen.status != wide.status:
        yield f"{' '.join(screen.words)}: status {screen.status}: {screen.err[-500:]}"
    if width == PIPED and screen.status < 2 and screen.err:
        yield f"{' '.join(screen.words)}: progress on a pipe: {screen.err[:200]!r}"


def _named(screen: Screen, width: int, fault: str, found: Iterator[str]) -> Iterator[str]:
    for text in found:
        yield f"{' '.join(screen.words)} at {width or 'piped'}: {fault} {text}"


def prepared(folder: Path) -> Path:
    """Returns the folder, with files that are no models."""
    (folder / "empty.h5").write_bytes(b"")
    (folder / "text.h5").write_text("hello\n")
    return folder


def on_model(jobs: Sequence[tuple[str, ...]], model: Path) -> list[tuple[str, ...]]:
    """Returns commands with a model's name in the place of MODEL."""
    return [tuple(model.name if word == "MODEL" else word for word in words) for words in jobs]


def models() -> list[Path]:
    """Returns three models of the corpus, or of tests/data without a corpus."""
    corpus = Path(os.environ.get("XLSTM_CORPUS", ""))
    if os.environ.get("XLSTM_CORPUS") and corpus.is_dir():
        return [next(iter(sorted(corpus.glob(name)))) for name in REAL]
    return [DATA / name for name in SMALL]


def main() -> int:
    """Checks all screens; returns 1 if a fault was found."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--models", type=int, default=3, help="how many models; 3")
    parser.add_argument("--match", default="", help="regular expression for the commands to run")
    parser.add_argument("--show", action="store_true", help="print the screens of 60 columns")
    args = parser.parse_args()
    wrong = 0
    for number, model in enumerate(models()[: args.models]):
        jobs = on_model((*LIGHT, *HEAVY, *(() if number else (*ONCE, ("demo",), *ERRORS))), model)
        jobs = [words for words in jobs if re.search(args.match, " ".join(words))]
        with tempfile.TemporaryDirectory() as name:
            folder = prepared(Path(name))
            shutil.copy(model, folder)
            for line in faults(jobs, folder):
                sys.stdout.write(f"{model.name}: {line}\n")
                wrong += 1
            if args.show:
                _show(screens(jobs, WIDTHS[0], folder))
        sys.stdout.write(f"{model.name}: {len(jobs)} commands, {len(WIDTHS) + 2} screens each\n")
        sys.stdout.flush()
    sys.stdout.write(f"{wrong} faults\n")
    return int(bool(wrong))


def _show(every: Sequence[Screen]) -> None:
    for screen in every:
        sys.stdout.write(f"$ xlstm {' '.join(screen.words)}\n{screen.out}{_last(screen.err)}\n")


if __name__ == "__main__":
    sys.exit(main())
