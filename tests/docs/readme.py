"""Fills the generated blocks of README.md and SUPPORT.md: python tests/docs/readme.py.

A block is a comment `<!-- run: COMMAND -->` or `<!-- run: COMMAND (lines 1 to 9) -->` before a
fenced block, which becomes what the command prints. `<!-- table: COMMAND -->` stands before a text
up to `<!-- end -->` that becomes the Markdown which the command prints. Commands run one after the
other in one temporary folder that holds the example model as memorise.keras, with `xlstm` and
`python` of this environment.
"""

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
SUPPORT = ROOT / "SUPPORT.md"
PAGES = (README, SUPPORT)
TABLE = re.compile(r"<!-- table: (?P<command>.+?) -->\n.*?<!-- end -->\n", re.S)
BLOCK = re.compile(
    r"<!-- run: (?P<command>.+?)(?P<cut> \(lines (?P<first>\d+) to (?P<last>\d+)\))? -->\n"
    r"```(?P<kind>\w+)\n(?P<text>.*?)```\n",
    re.S,
)
MEASURED = re.compile(
    r"(?<= )\d+\.\d+\.\d+\S*|\d+\.\d\de[+-]\d\d|\d+ %|(?<= )\d+\.\d$|-?\d+\.\d{3,}", re.M
)
"""Versions, and figures that differ a little from one processor to the next."""


def output(command: str, folder: Path) -> str:
    """What a command prints."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path}
    done = subprocess.run(
        shlex.split(command), cwd=folder, env=environment, capture_output=True, text=True
    )
    if done.returncode:
        raise RuntimeError(f"{command}: exit {done.returncode}\n{done.stderr}")
    return "\n".join(line.rstrip() for line in done.stdout.strip("\n").splitlines()) + "\n"


@functools.cache
def example(name: str) -> str:
    """What an example prints; each runs once in a process."""
    return output(f"python examples/{name}.py", ROOT)


def shown(found: re.Match[str], folder: Path) -> str:
    """A block run anew."""
    command = found["command"]
    name = re.fullmatch(r"python examples/(\w+)\.py", command)
    text = example(name[1]) if name else output(command, folder)
    if found["cut"]:
        text = "\n".join(text.splitlines()[int(found["first"]) - 1 : int(found["last"])]) + "\n"
    return f"<!-- run: {command}{found['cut'] or ''} -->\n```{found['kind']}\n{text}```\n"


def refreshed(text: str) -> str:
    """README with every generated block run anew."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(xlstm.demo.path(), Path(folder, "memorise.keras"))
        text = TABLE.sub(lambda found: table(found, Path(folder)), text)
        return BLOCK.sub(lambda found: shown(found, Path(folder)), text)


def table(found: re.Match[str], folder: Path) -> str:
    """Markdown made anew."""
    command = found["command"]
    return f"<!-- table: {command} -->\n\n{output(command, folder)}\n<!-- end -->\n"


def comparable(text: str) -> str:
    """Text without the figures that vary by processor, and without the width of their columns."""
    return re.sub(r"[ ─]+", " ", MEASURED.sub("#", text))


if __name__ == "__main__":
    for page in PAGES:
        write_file(page, refreshed(page.read_text("utf-8")).encode())
