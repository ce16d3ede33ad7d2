"""The rules of the source tree. Exceptions are named here, and have to be exact: lists only shrink.

A rule that fails says the difference. Mend the code where it broke the rule; where an exception is
gone, take it off its list. `python benchmarks/structure.py` prints the numbers behind the rules.
"""

from dataclasses import replace

import layer_support
import pytest
import structure_rules as rules
from cases import CASES, model
from cases_layers import CASES_LAYERS
from custom_texts import registered
from paths import ROOT
from source_tree import circles, import_graph, read_tree

from xlstm.frameworks import registry
from xlstm.ir.kinds import KINDS, Kind
from xlstm.ir.layers import LSTM, SPECS, Custom

MODULES = read_tree(ROOT)
GRAPH = import_graph(MODULES)

UPWARD = ""
"""Imports against the floors that are still there."""

CIRCLES = ""
"""Circles of imports that are still there: a package below xlstm, and modules in it."""

LARGE_FOLDERS = []

MISSING_ROOMS = ["converters/keras/native"]

MACHINERY = {
    "xlstm/ir/layers": "base fields",
    "xlstm/reference": "activations context coverage run summation variants",
    "converters/keras/read/layers": "config options",
    "converters/keras/read/ops": "call node_defs registry",
    "converters/keras/write": "constructors layer_arguments module plan port_tests",
    "converters/torch/read": "flattened_batch graph modules native_modules trace values",
    "converters/torch/write": "layers module port_tests writer",
    "converters/flax/read": "sequential",
    "converters/flax/write": "dialect layers module port_tests",
}
"""Folder -> modules that serve the layers of all families."""

NO_FAMILY = ""
"""Modules of layers that are not called by a family yet."""

REPEATED = ""
"""Names of classes that have two meanings."""

PARTICIPLES = ""
"""Modules called by a participle."""

ASKING: dict[str, int] = {}
"""Folder -> docstrings that begin with a question word. A number may only fall."""

SHORT = """
converters/flax/live converters/flax/read converters/flax/templates converters/flax/write
converters/keras/live converters/keras/read/layers converters/keras/read/ops
converters/keras/templates converters/keras/write converters/torch/live
converters/torch/templates converters/torch/write
xlstm/diagnosis/mistakes/layers xlstm/diagnosis/mistakes/time
xlstm/diagnosis/mistakes/weights
"""
"""Packages whose docstring is one line."""

SLOTLESS = {name: ["Normalization: count"] for name in ("torch", "nnx", "linen")}
SLOTLESS["keras"] = ["RMSNorm: beta"]
"""Weights without a slot: no function uses this count, which Keras alone keeps; an RMSNorm has the
weights of a LayerNorm, but never a beta."""


def lines(text):
    return sorted(filter(None, text.split("\n")))


def words(text):
    return sorted(text.split())


def full_names(line):
    """Names of the modules of a circle."""
    package, _, rest = line.partition(":")
    return tuple(sorted(".".join(filter(None, ("xlstm", package, n))) for n in rest.split()))


def check_exact(found, exceptions):
    """Fails unless a rule is broken by its exceptions, each of them, and by nothing else."""
    found, exceptions = set(found), set(exceptions)
    said = [f"breaks the rule: {one}" for one in sorted(found - exceptions)]
    said += [f"no exception any more: {one}" for one in sorted(exceptions - found)]
    if said:
        pytest.fail("\n".join(said), pytrace=False)


@pytest.fixture
def tree(tmp_path):
    """Writes files to a made-up tree, and reads it."""

    def write(empty="", files=()):
        for name, text in {**dict.fromkeys(empty.split(), ""), **dict(files)}.items():
            path = tmp_path / f"{name}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return read_tree(tmp_path)

    write.root = tmp_path
    return write


def test_exceptions_are_exact():
    check_exact(["a", "b"], ["b", "a"])
    with pytest.raises(pytest.fail.Exception, match="breaks the rule: c\nno exception any more: b"):
        check_exact(["a", "c"], ["a", "b"])


def test_no_package_imports_from_above():
    assert rules.packages_without_floor(MODULES) == []
    check_exact(rules.upward_imports(GRAPH), lines(UPWARD))


@pytest.mark.parametrize(
    ("name", "line", "target"),
    [
        ("xlstm/ir/graph", "from xlstm.files import guards", "files.guards"),
        ("xlstm/ir/graph", "def f():\n    import xlstm.files.guards", "files.guards"),
        ("xlstm/ir/graph", "if TYPE_CHECKING:\n    from xlstm.cli import main", "cli.main"),
        ("xlstm/ir/graph", "importlib.import_module('xlstm.cli.main')", "cli.main"),
        ("xlstm/slots", "from xlstm.files.guards import guard", "files.guards"),
        ("xlstm/ir/graph", "from xlstm.demo import path", "demo"),
        ("xlstm/ir/graph", "from xlstm.converters.torch import slots", "converters.torch.slots"),
        ("xlstm/cli/main", "from xlstm.converters.torch import slots", "converters.torch.slots"),
        ("converters/keras/slots", "from ..torch.slots import A", "converters.torch.slots"),
        ("converters/codegen/text", "from ..torch import slots", "converters.torch.slots"),
        ("converters/torch/slots", "from xlstm.files.zips import open_zip", "files.zips"),
        ("converters/torch/slots", "from xlstm.reference import run", "reference.run"),
    ],
)
def test_an_import_from_above_is_found(tree, name, line, target):
    others = "xlstm/files/guards xlstm/files/zips xlstm/cli/main xlstm/demo xlstm/reference/run"
    modules = tree(f"{others} converters/torch/slots", {name: line})
    source = f"xlstm.{name.removeprefix('xlstm/').replace('/', '.')}"
    assert rules.upward_imports(import_graph(modules)) == [f"{source} -> xlstm.{target}"]


def test_imports_from_below_are_allowed(tree):
    modules = tree(
        "xlstm/errors xlstm/files/description",
        {
            "xlstm/__init__": "from xlstm.cli import main",
            "xlstm/demo": "from xlstm.ir import graph",
            "xlstm/ir/graph": "from xlstm import errors",
            "xlstm/ir/other": "from xlstm.ir import graph",
            "xlstm/reference/run": "from xlstm.ir.graph import Model",
            "xlstm/cli/main": "from xlstm import demo\nfrom xlstm.reference.run import run",
            "converters/codegen/text": "from xlstm.ir import graph",
            "converters/torch/slots": "from ..codegen.text import Call\nfrom .live import model",
            "converters/torch/live/model": "from xlstm.files.description import Description",
            "converters/numpy/live": "from xlstm.reference import run",
        },
    )
    assert rules.upward_imports(import_graph(modules)) == []


def test_a_package_without_a_floor_is_found(tree):
    assert rules.packages_without_floor(tree("xlstm/extras/more")) == ["extras"]


def test_no_files_import_each_other_in_a_circle():
    check_exact(circles(GRAPH), map(full_names, lines(CIRCLES)))


def test_a_circle_is_found(tree):
    modules = tree(
        files={
            "xlstm/ir/a": "from xlstm.ir.b import x",
            "xlstm/ir/b": "def f():\n    from xlstm.ir import c",
            "xlstm/ir/c": "importlib.import_module('xlstm.ir.a')",
        }
    )
    assert circles(import_graph(modules)) == [("xlstm.ir.a", "xlstm.ir.b", "xlstm.ir.c")]


def test_folders_are_small():
    check_exact(rules.large_folders(ROOT), LARGE_FOLDERS)


def test_a_large_folder_is_found(tree):
    names = [f"m{n}" for n in range(rules.MOST_MODULES)]
    tree(" ".join(f"xlstm/ir/{name} tests/ir/{name}" for name in ["__init__", *names]))
    assert rules.large_folders(tree.root) == []
    tree("xlstm/ir/more tests/ir/more")
    assert rules.large_folders(tree.root) == ["tests/ir: 17", "xlstm/ir: 17"]


def test_every_framework_has_the_same_rooms():
    check_exact(rules.missing_rooms(ROOT), MISSING_ROOMS)


def test_a_missing_room_is_found(tree):
    for framework in rules.FRAMEWORK_FOLDERS:
        tree(" ".join(f"converters/{framework}/{room}" for room in rules.ROOMS))
    assert rules.missing_rooms(tree.root) == []
    (tree.root / "converters" / "flax" / "adapter.py").unlink()
    (tree.root / "converters" / "keras" / "slots.py").unlink()
    assert rules.missing_rooms(tree.root) == ["converters/flax/adapter", "converters/keras/slots"]


def test_modules_of_layers_are_called_by_families():
    check_exact(rules.unlisted_names(MODULES, MACHINERY), lines(NO_FAMILY))


def test_a_module_of_no_family_is_found(tree):
    modules = tree("xlstm/ir/layers/shape xlstm/ir/layers/base")
    assert rules.unlisted_names(modules, {"xlstm/ir/layers": "base"}) == []
    modules = tree("xlstm/ir/layers/moves")
    assert rules.unlisted_names(modules, {"xlstm/ir/layers": "base shape fields"}) == [
        "xlstm/ir/layers/fields: listed, not there",
        "xlstm/ir/layers/moves",
        "xlstm/ir/layers/shape: a family",
    ]


def test_a_class_name_means_one_thing():
    check_exact(rules.repeated_classes(MODULES), words(REPEATED))


def test_a_repeated_class_is_found(tree):
    tree(files={"converters/torch/templates/cells": "class Cell: ...\n"})
    assert rules.repeated_classes(tree(files={"xlstm/ir/cells": "class Cell: ...\n"})) == {}
    found = rules.repeated_classes(tree(files={"xlstm/slots": "def f():\n    class Cell: ...\n"}))
    assert found == {"Cell": ["xlstm/ir/cells.py", "xlstm/slots.py"]}


def test_modules_are_not_called_by_participles():
    check_exact(rules.participles(MODULES), lines(PARTICIPLES))


def test_a_participle_is_found(tree):
    tree("xlstm/reading/__init__ xlstm/ir/hidden_states xlstm/ir/padding")
    assert rules.participles(tree("xlstm/ir/time_distributed")) == []
    modules = tree("xlstm/ir/made xlstm/ir/shared_and_held xlstm/saving/__init__")
    assert rules.participles(modules) == [
        "xlstm/ir/made.py",
        "xlstm/ir/shared_and_held.py",
        "xlstm/saving",
    ]


def test_docstrings_do_not_ask():
    check_exact(rules.docstrings_that_ask(MODULES).items(), ASKING.items())


def test_a_docstring_that_asks_is_found(tree):
    text = '"""Which."""\n\n\ndef f():\n    """Whatever it is, how it is."""\n\n\n'
    text += 'class A:\n    """How it is."""\n\n    def f(self):\n        """Whether it is."""\n'
    modules = tree(
        files={
            "xlstm/ir/graph": text,
            "xlstm/slots": '"""Slots."""\n',
            "xlstm/model": '"""Where."""',
        }
    )
    assert rules.docstrings_that_ask(modules) == {"xlstm": 1, "xlstm/ir": 3}


def test_every_package_says_what_is_in_it():
    assert rules.packages_without_docstring(MODULES) == []
    check_exact(rules.packages_with_short_docstring(MODULES), words(SHORT))


def test_a_package_that_says_nothing_is_found(tree):
    tree(
        files={
            "xlstm/__init__": '"""Ports.\n\nFrom here to there.\n"""\n',
            "xlstm/ir/__init__": "A = 1\n",
        }
    )
    modules = tree(
        files={"xlstm/files/__init__": '"""Files."""\n', "xlstm/bare/module": '"""Text."""\n'}
    )
    assert rules.packages_without_docstring(modules) == ["xlstm/bare", "xlstm/ir"]
    assert rules.packages_with_short_docstring(modules) == ["xlstm/files"]


def test_nothing_lies_beside_the_converters():
    assert rules.files_beside_converters(ROOT) == []


def test_a_file_beside_the_converters_is_found(tree):
    tree("converters/__init__ converters/torch/slots converters/source")
    assert rules.files_beside_converters(tree.root) == ["source.py"]


def test_no_list_of_frameworks_leaves_out_a_third_party():
    assert rules.fixed_frameworks(MODULES) == []


@pytest.mark.parametrize(
    ("line", "number"),
    [
        ("NAMES = ('keras', 'torch', 'nnx', 'linen')", 1),
        ("def f():\n    for name in ['torch', 'keras']:\n        pass", 2),
        ("NAMES = registry.frameworks()", 1),
        ("def f(names=registry.frameworks()):\n    pass", 1),
    ],
)
def test_a_fixed_list_of_frameworks_is_found(tree, line, number):
    allowed = "def f():\n    return [n for n in registry.frameworks() if n != 'keras']"
    modules = tree(files={"xlstm/counting/more": line, "xlstm/counting/open": allowed})
    assert rules.fixed_frameworks(modules) == [f"xlstm/counting/more.py: {number}"]


LAYERS = {
    **CASES,
    **CASES_LAYERS,
    "projection": model([LSTM(3, 4, projection=2)], (None, 3)),
}
"""Models with layers of every kind but those of users."""


@pytest.mark.parametrize("framework", registry.frameworks())
def test_every_layer_is_written_or_refused_and_its_weights_have_slots(framework):
    adapter = registry.adapter(framework)
    with registered():
        custom = model([Custom("Lambda:triple", mask="passes")], (None, 3))
        found = layer_support.answers(adapter, [*LAYERS.values(), custom])
    assert found.failures == []
    assert layer_support.kinds_without_answer(found, set(SPECS) - {"Input"}) == []
    missing = layer_support.weights_without_slot(adapter, KINDS.items(), found.refused_forms)
    assert missing == SLOTLESS.get(framework, [])


def test_a_layer_without_an_answer_is_found():
    torch, one = registry.adapter("torch"), [CASES["lstm-tanh-sigmoid"]]
    assert layer_support.answers(torch, one).failures == []
    assert layer_support.kinds_without_answer(layer_support.answers(torch, one), SPECS) != []
    (failure,) = layer_support.answers(replace(torch, emit=lambda _model: {}["LSTM"]), one).failures
    assert failure.startswith("LSTM: neither refused nor written: KeyError")
    refusing = layer_support.answers(replace(torch, unsupported_reason=lambda _node: "no"), one)
    assert (refusing.refused, refusing.refused_forms, refusing.written) == (
        {"LSTM"},
        {"LSTM"},
        set(),
    )


def test_weights_without_a_slot_are_found():
    torch = registry.adapter("torch")
    more = replace(KINDS["Dense"], tensors={**KINDS["Dense"].tensors, "scale": "o"})
    kinds = {"Dense": more, "Other": Kind("Other", {"kernel": "io"})}.items()
    missing = ["Dense: scale", "Other: kernel"]
    assert layer_support.weights_without_slot(torch, kinds, set()) == missing
    assert layer_support.weights_without_slot(torch, kinds, {"Other"}) == missing[:1]
