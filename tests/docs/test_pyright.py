"""The emitted modules are well typed: one run of a type checker over what many models give."""

import json
import subprocess
import sys

from emitted_sources import sources
from golden import FOLDER_OF_TESTS

from xlstm.frameworks import registry

OPTIONS = {"typeCheckingMode": "standard", "reportMissingModuleSource": False}


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
    emitted = [module for framework in registry.frameworks() for module in sources(framework)]
    for module in emitted:
        (tmp_path / f"{module.name}.py").write_text(module.text)
    tests = [path for path in FOLDER_OF_TESTS.iterdir() if path.suffix == ".py"]
    for path in tests:
        (tmp_path / f"tests_of_{path.stem.replace('.', '_')}.py").write_text(path.read_text())
    found, files = checked(tmp_path)
    assert not found, "\n".join(found)
    assert files == len(emitted) + len(tests) > 100


def test_the_type_checker_finds_an_error(tmp_path):
    (tmp_path / "model.py").write_text('x: int = ""\n')
    found, _ = checked(tmp_path)
    assert len(found) == 1
