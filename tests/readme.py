"""Fills the generated blocks of README.md: python tests/readme.py [--check].

A block is a comment `<!-- run: COMMAND -->` followed by a fenced block, which becomes what the
command prints. Commands run one after the other in one temporary folder that holds the example
model as memorise.keras, with `xlstm` and `python` of this environment.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import xlstm

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
BLOCK = re.compile(r"<!-- run: (?P<command>.+?) -->\n```(?P<kind>\w+)\n(?P<text>.*?)```\n", re.S)
MEASURED = re.compile(
    r"(?<= )\d+\.\d+\.\d+\S*|\d+\.\d\de[+-]\d\d|\d+ %|(?<= )\d+\.\d$|-?\d+\.\d{3,}", re.M
)
"""Versions, and figures that differ a little from one processor to the next."""


def output(command: str, folder: Path) -> str:
    """What a command prints."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    words = shlex.split(command.replace("examples/", f"{ROOT}/examples/"))
    done = subprocess.run(
        words, cwd=folder, env={**os.environ, "PATH": path}, capture_output=True, text=True
    )
    if done.returncode:
        raise RuntimeError(f"{command}: exit {done.returncode}\n{done.stderr}")
    return "\n".join(line.rstrip() for line in done.stdout.strip("\n").splitlines()) + "\n"


def refreshed(text: str) -> str:
    """README with every generated block run anew."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copy(xlstm.demo.path(), folder / "memorise.keras")

        def fill(found: re.Match[str]) -> str:
            shown = output(found["command"], folder)
            return f"<!-- run: {found['command']} -->\n```{found['kind']}\n{shown}```\n"

        return BLOCK.sub(fill, text)


def comparable(text: str) -> str:
    """Text without the figures that vary by processor, and without the width of their columns."""
    return re.sub(r"[ ─]+", " ", MEASURED.sub("#", text))


if __name__ == "__main__":
    README.write_text(refreshed(README.read_text("utf-8")), "utf-8")
