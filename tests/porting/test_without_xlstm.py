"""Every kind of emitted module loads its weights in a process that has no xlstm."""

import subprocess
import sys

import pytest
from emitted_sources import sources
from safetensors.numpy import save_file

from xlstm.frameworks import registry
from xlstm.frameworks.model_tensors import pack_model

CODE = """
import importlib.util, pathlib, sys

class NoXlstm:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "xlstm":
            raise ImportError(f"{name} is not installed")

sys.meta_path.insert(0, NoXlstm())
loaded = 0
for folder in sorted(pathlib.Path(sys.argv[1]).iterdir()):
    spec = importlib.util.spec_from_file_location(folder.name, folder / "model.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.load()
    loaded += 1
assert not any(name.partition(".")[0] == "xlstm" for name in sys.modules)
print(loaded)
"""


def run(folder):
    command = [sys.executable, "-c", CODE, str(folder)]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder)


@pytest.mark.parametrize("framework", registry.frameworks())
def test_emitted_modules_load_where_there_is_no_xlstm(framework, tmp_path):
    modules = list(sources(framework))
    for module in modules:
        folder = tmp_path / module.name
        folder.mkdir()
        (folder / "model.py").write_text(module.text)
        weights = pack_model(module.model, registry.adapter(framework))
        save_file(weights, folder / registry.adapter(framework).weights_file)
    done = run(tmp_path)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.splitlines()[-1]) == len(modules) > 50


def test_a_module_that_needs_xlstm_would_not_load(tmp_path):
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "model.py").write_text("import xlstm\n")
    done = run(tmp_path)
    assert done.returncode == 1
    assert "xlstm is not installed" in done.stderr
