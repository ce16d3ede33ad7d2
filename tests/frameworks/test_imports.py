"""What importing costs and gives: no framework, public names with documents, reserved names."""

import importlib.util
import inspect
import keyword
import os
import shutil
import subprocess
import sys
import tomllib
import types
from pathlib import Path

import pytest
from paths import DATA, ROOT
from processes import CLI, run

import xlstm
from xlstm.frameworks import registry
from xlstm.ir.identifiers import RESERVED, identifier

FRAMEWORKS = {"torch", "jax", "jaxlib", "flax", "keras", "tensorflow", "tf_keras"}
REPORT = f"""
import atexit, sys
atexit.register(lambda: print("IMPORTED", *sorted({FRAMEWORKS!r} & set(sys.modules))))
"""
"""Has a process say at its end which frameworks it imported."""

DEMO = xlstm.demo.path()
SNIPPETS = {
    "import": "import xlstm",
    "import-all": "from xlstm import *",
    "load": f"import xlstm; xlstm.load({str(DEMO)!r})",
    "count": f"import xlstm; assert xlstm.count({str(DEMO)!r}).total('torch') == 2260",
    "explain": "import xlstm; print(xlstm.explain('LSTM', features=1, units=20))",
    "convert": (
        "import numpy as np, xlstm\n"
        "arrays = [np.ones((3, 2)), np.zeros(2)]\n"
        "xlstm.convert_weights(arrays, 'keras.Dense', 'torch.Linear')"
    ),
    "save": (
        f"import xlstm\n"
        f"for to in ('torch', 'nnx', 'linen'):\n"
        f"    folder = xlstm.save({str(DEMO)!r}, f'port_{{to}}', to)\n"
        f"    xlstm.count(folder)"
    ),
    "numpy": (
        f"import numpy as np, xlstm\n"
        f"xlstm.port({str(DEMO)!r}, 'numpy')(np.ones((1, 20, 1), 'float32'))"
    ),
}
COMMANDS = {
    "count": ("count", DEMO),
    "count-json": ("count", DEMO, "--json"),
    "inspect": ("inspect", DEMO),
    "explain": ("explain", "LSTM", "--features", 1, "--units", 20),
    "port": ("port", DEMO, "--to", "torch", "-o", "port", "--no-verify"),
    "help": ("--help",),
}


def imported(code, *args):
    """The frameworks that a process which runs `code` imports."""
    done = run(REPORT + code, *args)
    assert done.returncode == 0, done.stderr
    last = done.stdout.splitlines()[-1].split()
    assert last[0] == "IMPORTED"
    return set(last[1:])


@pytest.mark.parametrize("case", SNIPPETS)
def test_calls_that_import_no_framework(case, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert imported(SNIPPETS[case]) == set()


WITHOUT_H5PY = f"""
import pathlib, sys
sys.modules["h5py"] = None
import xlstm
from xlstm.files.copies import clean_copy
assert xlstm.load({str(DEMO)!r}).layers
assert xlstm.load({str(DATA / "k224" / "lstm.h5")!r}).layers
try:
    clean_copy(pathlib.Path({str(DEMO)!r}), pathlib.Path())
except xlstm.errors.MissingFrameworkError as error:
    print(error)
"""


def test_files_are_read_without_h5py(tmp_path, monkeypatch):
    """The copy that Keras is handed needs it, and says where it comes from."""
    monkeypatch.chdir(tmp_path)
    done = run(WITHOUT_H5PY)
    assert (done.returncode, done.stderr) == (0, "")
    assert "xlstm-converter[keras]" in done.stdout
    assert list(tmp_path.iterdir()) == []
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert not any(item.startswith("h5py") for item in wanted["dependencies"])
    assert any(item.startswith("h5py") for item in wanted["optional-dependencies"]["keras"])


@pytest.mark.parametrize("case", COMMANDS)
def test_commands_that_import_no_framework(case, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert imported(CLI, *COMMANDS[case]) == set()


COUNTED = f"""
import xlstm
assert xlstm.count({str(DEMO)!r}).total("torch") == 2260
import xlstm.converters
print(xlstm.__file__)
print(xlstm.converters.__file__)
"""


def wheel(site):
    """What a wheel installs: the packages that pyproject.toml names, from where it says."""
    tools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    for package in tools["packages"]:
        moved = max((p for p in tools["package-dir"] if package.startswith(p)), default="")
        start = tools["package-dir"][moved] if moved else ""
        source = ROOT / (start + package.removeprefix(moved).replace(".", "/"))
        target = site / package.replace(".", "/")
        target.mkdir(parents=True)
        for file in [*source.glob("*.py"), *source.glob("*.keras")]:
            shutil.copy(file, target)


@pytest.mark.parametrize("started", ["clone", "elsewhere"])
@pytest.mark.parametrize("installed", [True, False])
def test_the_adapters_are_those_beside_the_core(installed, started, tmp_path):
    """Python puts the folder it is started in before what is installed."""
    site = tmp_path / "site"
    wheel(site)
    needs = {"numpy", "h5py", "safetensors", "yaml", "rich", "mdurl", "pygments", "markdown_it"}
    found = {Path(importlib.util.find_spec(name).origin).parents[1] for name in needs}
    paths = [*([site] if installed else [] if started == "clone" else [ROOT]), *found]
    done = subprocess.run(
        [sys.executable, "-S", "-c", COUNTED],  # -S: without what the tests run from
        cwd=ROOT if started == "clone" else tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths))},
        capture_output=True,
        text=True,
        check=False,
    )
    core = site if installed and started == "elsewhere" else ROOT
    adapters = core / "xlstm" if core == site else core
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        str(core / "xlstm" / "__init__.py"),
        str(adapters / "converters" / "__init__.py"),
    ]


@pytest.mark.parametrize("framework", ["torch", "jax"])
def test_the_tests_above_can_fail(framework):
    assert framework in imported(f"import {framework}")
    assert framework in imported(f"import importlib; importlib.import_module('{framework}')")


def test_a_port_imports_its_framework_and_no_other():
    assert imported(f"import xlstm; xlstm.port({str(DEMO)!r}, 'torch')") == {"torch"}


def test_every_adapter_is_cold_until_it_runs():
    lines = [f"registry.adapter({name!r}).tables" for name in registry.names()]
    assert imported("\n".join(["from xlstm.frameworks import registry", *lines])) == set()


def test_public_names_are_what_all_says():
    assert sorted(set(xlstm.__all__)) == sorted(xlstm.__all__)
    assert set(xlstm.__all__) <= set(dir(xlstm))
    star = {}
    exec("from xlstm import *", star)
    assert set(xlstm.__all__) == set(star) - {"__builtins__"}


NAMED = [
    "proof.verify_folder",
    "diagnosing.CAUSES",
    "inputs.make_inputs",
    "model.LSTM",
    "errors.FileError",
]


IMPORTED = [
    *NAMED,
    *("inputs.cooked", "inputs.Recipe", "proof.read_record", "proof.record", "diagnosing.diagnose"),
    *("parity.judge", "parity.FACTOR", "model.mask_shape", "model.Spec", "model.Source"),
    *("model.Array", "model.Shape", "model.ACTIVATIONS", "model.SPECS", "demo.path"),
]


@pytest.mark.parametrize("name", IMPORTED)
def test_public_names_are_imported_from_their_modules(name):
    """As they were before the source lay in folders."""
    module, last = name.split(".")
    done = run(f"from xlstm.{module} import {last}; print({last} is not None)")
    assert (done.stdout, done.stderr) == ("True\n", "")


@pytest.mark.parametrize("name", NAMED)
def test_importing_xlstm_is_enough_for_names_of_the_readme(name):
    module, last = name.split(".")
    code = f"import xlstm; print(getattr(getattr(xlstm, {module!r}), {last!r}) is not None)"
    assert run(code).stdout == "True\n"


@pytest.mark.parametrize("name", xlstm.__all__)
def test_public_names_are_documented(name):
    found = getattr(xlstm, name)
    text = inspect.getdoc(found)
    assert text, "no docstring"
    assert not text.startswith(f"{name}("), "the docstring that a dataclass makes of its fields"
    first = text.splitlines()[0]
    assert first.endswith((".", ":")), first


def own_methods(found):
    """Public functions and properties that a class of ours defines."""
    for name, member in vars(found).items():
        if not name.startswith("_") and isinstance(member, (types.FunctionType, property)):
            yield name, member


CLASSES = [name for name in xlstm.__all__ if inspect.isclass(getattr(xlstm, name))]


@pytest.mark.parametrize("name", CLASSES)
def test_methods_of_public_classes_are_documented(name):
    missing = [m for m, found in own_methods(getattr(xlstm, name)) if not inspect.getdoc(found)]
    assert missing == []


def test_unknown_names_are_attribute_errors():
    with pytest.raises(AttributeError, match="frobnicate"):
        _ = xlstm.frobnicate


def public(found):
    return {name for name in dir(found) if not name.startswith("_")}


def torch_names():
    import torch

    return public(torch.nn.Module) | public(torch.nn.Module())


def nnx_names():
    from flax import nnx

    return public(nnx.Module) | public(nnx.Module())


def linen_names():
    from flax import linen

    class Empty(linen.Module):
        pass

    return public(Empty) | set(Empty.__dataclass_fields__)


@pytest.mark.parametrize("names", [torch_names, nnx_names, linen_names], ids=lambda f: f.__name__)
def test_no_layer_takes_an_attribute_of_a_base_class(names):
    found = names()
    assert len(found) > 5
    assert sorted(found - RESERVED) == []


@pytest.mark.parametrize("word", [*keyword.kwlist, *keyword.softkwlist, "__class__", "_", "__"])
def test_words_of_python_become_identifiers(word):
    name = identifier(word)
    assert name.isidentifier()
    assert not keyword.iskeyword(name)
    assert not keyword.issoftkeyword(name)
    assert not name.startswith("_")


def test_reserved_names_become_free_ones():
    made = {name: identifier(name) for name in RESERVED}
    assert not RESERVED & set(made.values())
    assert len(set(made.values())) == len(RESERVED)
    assert all(name.isidentifier() for name in made.values())


def test_every_package_is_shipped():
    """Setuptools ships what is listed; a package that is not listed fails only once installed."""
    root = Path(__file__).parents[2]
    listed = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    found = {".".join(p.parent.relative_to(root).parts) for p in root.glob("xlstm/**/__init__.py")}
    ours = root.glob("converters/**/__init__.py")
    found |= {".".join(["xlstm", *p.parent.relative_to(root).parts]) for p in ours}
    assert set(listed) == found
