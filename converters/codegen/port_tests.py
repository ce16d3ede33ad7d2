"""Writes test_port.py: tests of a port that need the framework and pytest, not xlstm.

In: the tests of a port, and the lines that run it in one framework. Out: source text. The functions
are those of `templates/port_tests.py`; the constants between them are written here.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from xlstm.frameworks.port_tests import GOLDEN, PortTests
from xlstm.ir.graph import Model
from xlstm.ir.identifiers import identifiers
from xlstm.ir.literals import quoted

from . import source
from .source import listed, statement, template_sources

COMMON = "codegen/templates/port_tests.py"

FOUND = "found = [outputs]"
"""The statement of a template that makes a list of a model's outputs."""


@dataclass(frozen=True)
class Runner:
    """The part of the tests that one framework decides.

    Attributes:
        title: name of the framework.
        target: the name that users write.
        needs: packages to install.
        imports: import lines besides those of every test.
        functions: source of the functions that run the port; the last one is `run`.
        dtypes: lines that set DTYPES, if the target decides them when the tests run.
    """

    title: str
    target: str
    needs: str
    imports: Sequence[str]
    functions: Sequence[str]
    dtypes: Sequence[str] = ()


def function(file: str, name: str, found: Sequence[str]) -> str:
    """Returns a function of a template, called `run`, with the outputs of one model.

    Args:
        file: the template.
        name: of the function in it.
        found: lines in the place of `FOUND`, without the indent of the function.
    """
    text = template_sources(file)[name].replace(f"def {name}(", "def run(")
    (line,) = (line for line in text.splitlines() if line.strip() == FOUND)
    indent = line[: len(line) - len(FOUND)]
    return text.replace(line, "\n".join(indent + one for one in found))


def found_outputs(model: Model) -> list[str]:
    """Returns lines that make a list of all outputs of a module, then of its states."""
    if not model.stateful:
        return list_of_outputs(model)
    own = ["for name in STATEFUL:", "    found += state[name]"]
    return ["outputs, state = outputs", *list_of_outputs(model), *own]


def list_of_outputs(model: Model) -> list[str]:
    """Returns the line that makes a list of a model's outputs, without states."""
    if model.keys:
        # not in the order of the dict: JAX sorts its keys
        keys = f"OUTPUTS[:{len(model.keys)}]" if model.stateful else "OUTPUTS"
        return [f"found = [outputs[key] for key in {keys}]"]
    return ["found = [*outputs]" if len(model.outputs) > 1 else FOUND]


def emit(tests: PortTests, runner: Runner) -> str:
    """Returns the source text of test_port.py."""
    common = template_sources(COMMON)
    names = ["differences", "meaning", "check", "outputs"]
    tests_of = ["test_output_is_that_of_the_reference"]
    tests_of += [] if tests.alone is None else ["test_a_row_alone_is_that_of_the_batch"]
    functions = [common["load_module"], *runner.functions]
    functions += [common[name] for name in (*names, *tests_of)]
    third = ["import numpy as np", "import pytest", *runner.imports]
    third.append("from safetensors.numpy import load_file")
    standard = ["import functools", "import importlib.util", "from pathlib import Path"]
    standard += ["from types import ModuleType"]
    head = [*_docstring(tests, runner), *source.imports(standard, third)]
    constants = _constants(tests, runner)
    first, *rest = functions
    blocks = [[*head[:-2], "", *constants], first.split("\n"), ["PORT = load_module()"]]
    return source.join([*blocks, *(text.split("\n") for text in rest)])


def _docstring(tests: PortTests, runner: Runner) -> list[str]:
    """Returns the module's docstring: how to run the tests, and what they compare."""
    sentences = [
        f"Run `pytest` in this folder. It needs {runner.needs}; it does not need xlstm.",
        f"{GOLDEN} has inputs, the outputs of a float64 reference for them, and the largest "
        "difference that is allowed at each time step in each precision. It is 8 times what "
        "rounding alone can change.",
        *tests.parts,
    ]
    title = f"Tests of the {runner.title} port in model.py against numbers of a reference."
    lines = [line for text in sentences for line in textwrap.wrap(text, source.WIDTH)]
    return source.docstring(title, *lines)


def _constants(tests: PortTests, runner: Runner) -> list[str]:
    """Returns lines that set the constants of the tests."""
    model, layers = tests.model, identifiers(tests.model)
    count, stateful = len(model.inputs), [layers[node.name] for node in model.stateful]
    lines = [
        "HERE = Path(__file__).parent",
        f'GOLDEN = load_file(HERE / "{GOLDEN}")',
        f'INPUTS = [GOLDEN[f"input.{{number}}"] for number in range({count})]',
        *statement("OUTPUTS = ", listed(map(quoted, tests.outputs)), 0),
        *(runner.dtypes or statement("DTYPES = ", listed(map(quoted, tests.dtypes)), 0)),
    ]
    lines += statement("STATEFUL = ", listed(map(quoted, stateful)), 0) if stateful else []
    lines += [] if tests.alone is None else [f"ROW = {tests.alone}"]
    return [
        *lines,
        "AGAIN = (",
        '    "If the weights were trained on, that is expected: these numbers are of the "',
        '    "weights that were ported. To write new ones: "',
        f'    "xlstm port FOLDER --to {runner.target} -o NEW --with-tests"',
        ")",
    ]
