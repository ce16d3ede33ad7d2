"""The emitted modules are well typed: one run of a type checker over what many models give."""

import json
import re
import subprocess
import sys

from cases import CASES
from cases_layers import CASES_LAYERS
from golden import MODELS

from xlstm import registry

OPTIONS = {"typeCheckingMode": "standard", "reportMissingModuleSource": False}


WORDS = re.compile(r"(?!self)\b[\w.]+(?=\()|\w+=|^class .*|^def .*", re.MULTILINE)
"""What is called, what arguments it is told, and what is defined."""


def sources():
    """Modules by name: those in which something is called or named that none before them has."""
    models = {**{make.__name__: make() for make in MODELS}, **CASES, **CASES_LAYERS}
    for framework in registry.FRAMEWORKS:
        emit, seen = registry.adapter(framework).emit, set()
        for case, model in models.items():
            text = emit(model)
            words = {*WORDS.findall(text)}
            if not words <= seen:
                yield f"{re.sub('[^0-9A-Za-z]', '_', case)}_{framework}.py", text
            seen |= words


def checked(folder):
    """What the type checker finds in a folder, and in how many files it looked."""
    (folder / "pyrightconfig.json").write_text(json.dumps(OPTIONS))
    command = [sys.executable, "-m", "basedpyright", "--outputjson", "--pythonpath"]
    command += [sys.executable, "--project", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True)
    answer = json.loads(done.stdout)
    found = [f"{item['file']}: {item['message']}" for item in answer["generalDiagnostics"]]
    return found, answer["summary"]["filesAnalyzed"]


def test_emitted_modules_are_well_typed(tmp_path):
    texts = dict(sources())
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    found, files = checked(tmp_path)
    assert not found, "\n".join(found)
    assert files == len(texts) > 100


def test_the_type_checker_finds_an_error(tmp_path):
    (tmp_path / "model.py").write_text('x: int = ""\n')
    found, _ = checked(tmp_path)
    assert len(found) == 1
