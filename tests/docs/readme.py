"""Fills the generated blocks of README.md and docs/*.md: python tests/docs/readme.py [PAGE ...].

A block is a comment `<!-- run: COMMAND -->` or `<!-- run: COMMAND (lines 1 to 9) -->` before a
fenced block. Blocks of text become the command and its output, others the output alone.
`<!-- table: COMMAND -->` stands before a text up to `<!-- end -->`, which becomes the Markdown
that the command prints. Every command runs once, in one temporary folder, with `xlstm` and `python`
of this environment. The folder contains the example model as memorise.keras, and a file of Keras
2.2.4 as old.h5. Examples and benchmarks run in the root of the project.
"""

import atexit
import functools
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import xlstm
from xlstm.files.atomic import write_file

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
PAGES = (README, *sorted((ROOT / "docs").rglob("*.md")))
TABLE = re.compile(r"<!-- table: (?P<command>.+?) -->\n.*?<!-- end -->\n", re.S)
BLOCK = re.compile(
    r"<!-- run: (?P<command>.+?)(?P<cut> \(lines (?P<first>\d+) to (?P<last>\d+)\))? -->\n"
    r"```(?P<kind>\w+)\n(?P<text>.*?)```\n",
    re.S,
)
PYTHON = re.compile(r"(?<!-->\n)```python\n(.*?)```", re.S)
"""Python that is not generated; it runs in the folder of the page's commands."""

IN_ROOT = ("python benchmarks/", "python docs/", "python examples/")
"""Beginnings of commands that run in the root of the project."""

MEASURED = re.compile(
    r"(?<= )\d+\.\d+\.\d+\S*|\d+\.\d\de[+-]\d\d|\d+ %|(?<= )\d+\.\d$|-?\d+\.\d{3,}", re.M
)
"""Versions, and figures that differ a little from one processor to the next."""


@functools.cache
def workplace() -> Path:
    """The folder that the commands run in; it goes when this process ends."""
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    shutil.copy(xlstm.demo.path(), folder / "memorise.keras")
    shutil.copy(ROOT / "tests" / "data" / "k224" / "lstm.h5", folder / "old.h5")
    return folder


@functools.cache
def output(command: str) -> str:
    """Runs a command and returns its output, without blanks at the ends of lines."""
    folder = ROOT if command.startswith(IN_ROOT) else workplace()
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path}
    done = subprocess.run(
        shlex.split(command), cwd=folder, env=environment, capture_output=True, text=True
    )
    if done.returncode:
        raise RuntimeError(f"{command}: exit {done.returncode}\n{done.stderr}")
    return "\n".join(line.rstrip() for line in done.stdout.strip("\n").splitlines()) + "\n"


def example(name: str) -> str:
    """Returns the output of an example."""
    return output(f"python examples/{name}.py")


def block(found: re.Match[str]) -> str:
    """Returns a block with the output of its command."""
    text = output(found["command"])
    if found["cut"]:
        text = "\n".join(text.splitlines()[int(found["first"]) - 1 : int(found["last"])]) + "\n"
    head = f"<!-- run: {found['command']}{found['cut'] or ''} -->\n```{found['kind']}\n"
    head += f"$ {found['command']}\n" if found["kind"] == "text" else ""
    return f"{head}{text}```\n"


def table(found: re.Match[str]) -> str:
    """Returns a table with the Markdown that its command prints."""
    return f"<!-- table: {found['command']} -->\n\n{output(found['command'])}\n<!-- end -->\n"


def refreshed(text: str) -> str:
    """Returns a page with the output of every command in it."""
    return BLOCK.sub(block, TABLE.sub(table, text))


def comparable(text: str) -> str:
    """Text without the figures that vary by processor, and without the width of their columns."""
    return re.sub(r"[ ─]+", " ", MEASURED.sub("#", text))


if __name__ == "__main__":
    for page in map(Path, sys.argv[1:] or PAGES):
        write_file(page, refreshed(page.read_text("utf-8")).encode())
