"""What a file calls its layers never becomes code: the source of every port is parsed and read."""

import ast
import io
import keyword
import re
import tokenize

import pytest
from make_files import make, options

import xlstm
from xlstm.frameworks import registry
from xlstm.ir.identifiers import identifiers

PACKAGES = {"collections", "pathlib", "typing", "torch", "jax", "flax", "keras", "numpy"}
PACKAGES |= {
    "safetensors",
    "inspect",
    "json",
    "functools",
    "tempfile",
}  # the last four to save a port
"""What emitted source may import."""

NAMES = {
    "newline": "payload\nimport os",
    "carriage-return": "payload\rimport os",
    "line-separator": "payload\u2028import os",
    "form-feed": "payload\x0cimport os",
    "semicolon": "payload; import os",
    "comment": "payload # noqa",
    "quote": 'payload"); import os; ("',
    "apostrophe": "payload'); import os; ('",
    "docstring": 'payload"""\nimport os\n"""',
    "backslash": "payload\\",
    "brace": "{payload}{0}%s",
    "markup": "[bold]payload[/bold]",
    "path": "../../payload",
    "nul": "payload\0",
    "escape": "payload\x1b[2J\x1b]0;title\x07",
    "surrogate": "payload\ud800",
    "dot": "payload.weight",
    "keyword": "class",
    "soft-keyword": "match",
    "constant": "None",
    "method": "forward",
    "field": "parent",
    "collection": "params",
    "dunder": "__class__",
    "number": "1",
    "blank": " ",
    "greek": "\u03bb",
    "fullwidth": "\uff49\uff4d\uff50\uff4f\uff52\uff54",
    "long": "payload" * 500,
    "model-class": "Model",
    "our-function": "load",
    "our-variable": "x",
    "its-own-input": "input",
}


def source_of(path, target):
    model = xlstm.load(path)
    return registry.adapter(target).emit(model)


def comments(text):
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return " ".join(token.string for token in tokens if token.type == tokenize.COMMENT)


def imported(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module.split(".")[0]


def check_source(text):
    """Compiles; imports nothing else; no name of the file's is in a comment or a docstring."""
    assert text.isascii()
    tree = ast.parse(text)
    compile(tree, "model.py", "exec")
    assert set(imported(tree)) <= PACKAGES
    assert "payload" not in comments(text)
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
            assert "payload" not in (ast.get_docstring(node) or "")
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            assert "import os" not in node.value
    assert not re.search(r"^\s*import os", text, re.MULTILINE)


@pytest.mark.parametrize("target", registry.frameworks())
@pytest.mark.parametrize("case", NAMES)
def test_names_of_layers_become_safe_source(case, target, tmp_path):
    path = make("keras", tmp_path, config=options(1, name=NAMES[case]))
    check_source(source_of(path, target))
    names = identifiers(xlstm.load(path)).values()
    assert all(name.isidentifier() and not keyword.iskeyword(name) for name in names)


def test_a_layer_named_as_the_collection_of_linen(tmp_path):
    path = make("keras", tmp_path, config=options(1, name="params"))
    xlstm.reconcile(path, ["linen"]).check()


def named_everywhere(text):
    """Puts a text in every place of a config that is only a name."""

    def hook(config):
        config["config"]["name"] = text
        for number, layer in enumerate(config["config"]["layers"]):
            layer["config"]["name"] = f"{text}{number}"

    return hook


@pytest.mark.parametrize("target", registry.frameworks())
@pytest.mark.parametrize("case", ["newline", "docstring", "surrogate", "escape", "quote"])
def test_names_of_models_and_inputs_become_safe_source(case, target, tmp_path):
    path = make("keras", tmp_path, config=named_everywhere(NAMES[case]))
    check_source(source_of(path, target))


@pytest.mark.parametrize("target", registry.frameworks())
def test_versions_become_safe_source(target, tmp_path):
    path = make("keras", tmp_path, version='3.0"""\nimport os\n"""payload')
    check_source(source_of(path, target))


@pytest.mark.parametrize("target", ["torch", "nnx", "linen"])
@pytest.mark.parametrize("case", NAMES)
def test_hostile_names_survive_a_folder(case, target, tmp_path):
    path = make("keras", tmp_path, config=named_everywhere(NAMES[case]))
    model = xlstm.load(path)
    folder = xlstm.save(path, tmp_path / "port", target)
    again = xlstm.load(folder)
    assert [node.name for node in again.nodes] == [node.name for node in model.nodes]
    files = {"model.py", "report.json", registry.adapter(target).weights_file}
    files |= {"config.json"} if target == "torch" else set()
    assert {item.name for item in folder.iterdir()} == files


PAIRS = [
    ("a b", "a_b"),
    ("eval", "eval_"),
    ("a\nb", "a\rb"),
    ("1", "layer_1"),
    ("\u03bb", "\u03bc"),
    ("lstm", "\uff4c\uff53\uff54\uff4d"),  # the same word in wide letters
    ("cap", "\u0441ap"),  # the first letter is Cyrillic
    ("class", "class_"),
    ("a_2", "a\n2"),
]


@pytest.mark.parametrize("pair", PAIRS, ids=range(len(PAIRS)))
def test_names_that_differ_stay_different(pair, tmp_path):
    def hook(config):
        for number, name in enumerate(pair, 1):
            config["config"]["layers"][number]["config"]["name"] = name

    model = xlstm.load(make("keras", tmp_path, config=hook))
    assert len(set(identifiers(model).values())) == 3
    folder = xlstm.save(model, tmp_path / "port", "torch")
    assert list(xlstm.load(folder).weights) == list(pair)


@pytest.mark.parametrize("case", ["newline", "docstring"])
def test_a_port_of_hostile_names_runs(case, tmp_path):
    path = make("keras", tmp_path, config=named_everywhere(NAMES[case]))
    xlstm.reconcile(path, ["torch", "nnx", "linen"]).check()


def test_a_hostile_name_in_hdf5(tmp_path):
    name = "payload\nimport os"

    def rename(file):
        file["model_weights"].move("lstm", name)
        file["model_weights"].attrs["layer_names"] = [name, "dense"]

    path = make("h5", tmp_path, config=options(1, name=name), weights=rename)
    for target in registry.frameworks():
        check_source(source_of(path, target))
