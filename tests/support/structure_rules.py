"""The rules of the tree: who may import whom, what a folder holds, and what things are called.

In: modules as `source_tree` reads them, or the root of a tree. Out: for every rule the breaches, by
name, in order. `test_architecture.py` says which rule has which exceptions left.
"""

from __future__ import annotations

import ast
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

from source_tree import Graph, Module

FLOORS = (
    {"errors", "_version", "_interrupt"},
    {"budget"},
    {"ir"},
    {"slots", "reference", "files"},
    {"frameworks"},
    {"rendering", "custom_layers"},
    {"reading"},
    {"counting"},
    {"porting", "runtime", "html_report"},
    {"decoding", "verification"},
    {"diagnosis", "handover", "stacking"},
    {"testing", "fleets"},
    {"cli"},
)
"""Packages of the core, lowest first: each imports from those before it, and from itself."""

FACADE = {
    "xlstm",
    *(f"xlstm.{name}" for name in "__main__ demo diagnosing inputs model parity proof".split()),
}
"""Modules with the public names: they may import anything, and only the command line them."""

CORE_OF_CONVERTERS = (
    *("errors", "budget", "ir", "slots", "files.description", "files.guards"),
    *("frameworks", "custom_layers"),
)
"""Parts of the core that converters may import."""

CORE_OF_ONE = {"converters.numpy": ("reference",)}
"""Parts of the core that one of the converters may import besides."""

MOST_MODULES = 16
"""Most modules of a folder, `__init__` left out."""

FOLDERS = ("xlstm", "converters", "tests")
"""Folders that this is asked of, with all below them."""

FRAMEWORK_FOLDERS = ("keras", "torch", "flax")
"""Folders of the frameworks."""

ROOMS = ("adapter", "slots", "native", "read", "write", "templates", "live")
"""Modules and folders of every framework."""

FRAMEWORKS = {"keras", "torch", "nnx", "linen"}
"""Names of our own adapters with slots."""

FAMILIES = {
    *("recurrent", "basic", "elementwise", "normalization", "convolution", "pooling"),
    *("merge", "attention", "shape", "operations", "custom"),
}
"""Names of modules that read, write or compute layers."""

NOUNS = {
    *("counting", "decoding", "padding", "pairing", "pooling", "porting", "reading"),
    *("lowering", "recording", "rendering", "stacking", "training", "wording"),
    *("diagnosing", "testing"),  # public names of users' programs
}
"""Words that are participles by their form, and nouns as names of modules."""

LAYER_NAMES = {"time_distributed"}
"""Modules that are called as a layer of Keras is."""

IRREGULAR = {
    *("begun", "bound", "broken", "built", "chosen", "done", "drawn", "driven", "found", "frozen"),
    *("given", "gone", "grown", "held", "hidden", "kept", "known", "laid", "left", "lent", "lost"),
    *("made", "meant", "met", "put", "run", "said", "seen", "sent", "shaken", "shown", "sought"),
    *("spent", "spoken", "stuck", "taken", "taught", "thought", "told", "torn", "understood"),
    *("woven", "written"),
} - {"run", "put"}  # both are verbs as well
"""Participles that do not end in "ed" or "ing"."""

TEMPLATE = re.compile(r"converters/(.*/templates/.*|[a-z_]*_cells\.py)")
"""Files that are copied as text; before there were folders, they were told by their names."""

QUESTION = re.compile(r"(What|Whether|Which|Where|How)\b")
"""First words that no docstring has."""


def package_of(name: str) -> str:
    """The package that a floor belongs to: "ir", "slots", "converters.torch"; "" for the facade."""
    parts = name.split(".")[1:]
    if name in FACADE or not parts:
        return ""
    return ".".join(parts[:2]) if parts[0] == "converters" else parts[0]


def floor_of(package: str) -> int | None:
    """Number of a floor, counted from below; None for a package that has none."""
    return next((n for n, floor in enumerate(FLOORS) if package in floor), None)


def packages_without_floor(modules: Mapping[str, Module]) -> list[str]:
    """Packages of the core that are in no floor."""
    found = {package_of(name) for name in modules} - {""}
    core = {package for package in found if not package.startswith("converters")}
    return sorted(package for package in core if floor_of(package) is None)


def upward_imports(graph: Graph) -> list[str]:
    """Imports that no floor allows, as "importer -> imported"."""
    return sorted(
        f"{name} -> {target}"
        for name, targets in graph.items()
        for target in targets
        if not _allowed(name, target)
    )


def _allowed(name: str, target: str) -> bool:
    package, other = package_of(name), package_of(target)
    if not package or package == other:
        return True
    if not other:
        return package == "cli"
    if package.startswith("converters"):
        return _allowed_in_converters(package, other, target)
    here, there = floor_of(package), floor_of(other)
    return here is not None and there is not None and there < here


def _allowed_in_converters(package: str, other: str, target: str) -> bool:
    if other.startswith("converters"):
        return other == "converters.codegen"
    parts = target.removeprefix("xlstm.") + "."
    allowed = (*CORE_OF_CONVERTERS, *CORE_OF_ONE.get(package, ()))
    return any(parts.startswith(f"{name}.") for name in allowed)


def modules_by_folder(modules: Mapping[str, Module]) -> Counter[str]:
    """Folder -> number of its modules, `__init__` left out."""
    return Counter(module.folder for module in modules.values() if not module.is_package)


def large_folders(root: Path) -> list[str]:
    """Folders of more modules than allowed, as "folder: number"."""
    paths = (path for top in FOLDERS for path in (root / top).rglob("*.py"))
    modules = (path for path in paths if path.name != "__init__.py")
    found = Counter(path.parent.relative_to(root).as_posix() for path in modules)
    return sorted(f"{name}: {number}" for name, number in found.items() if number > MOST_MODULES)


def missing_rooms(root: Path) -> list[str]:
    """Modules and folders that a framework's converter lacks, as "converters/keras/native"."""
    found = []
    for framework in FRAMEWORK_FOLDERS:
        folder = root / "converters" / framework
        for room in ROOMS:
            if not (folder / f"{room}.py").exists() and not (folder / room).is_dir():
                found.append(f"converters/{framework}/{room}")
    return sorted(found)


def unlisted_names(modules: Mapping[str, Module], machinery: Mapping[str, str]) -> list[str]:
    """Modules of the folders of layers that are called neither a family nor listed machinery.

    Args:
        modules: of the product.
        machinery: folder -> words: the modules that are there for all families alike. A listed one
            that is not there is told too.
    """
    found = []
    for folder, words in machinery.items():
        here = {m.stem for m in modules.values() if m.folder == folder and not m.is_package}
        listed = set(words.split())
        found += [f"{folder}/{name}" for name in here - listed - FAMILIES]
        found += [f"{folder}/{name}: listed, not there" for name in listed - here]
        found += [f"{folder}/{name}: a family" for name in listed & FAMILIES]
    return sorted(found)


def repeated_classes(modules: Mapping[str, Module]) -> dict[str, list[str]]:
    """Class names that stand more than once, with their files; templates are left out, as texts."""
    places = defaultdict(list)
    for module in modules.values():
        if not TEMPLATE.fullmatch(module.path):
            for node in module.classes():
                places[node.name].append(module.path)
    return {name: paths for name, paths in sorted(places.items()) if len(paths) > 1}


def participles(modules: Mapping[str, Module]) -> list[str]:
    """Modules and folders called by a participle that is no listed noun, by path.

    The last word decides: `hidden_states` are states.
    """
    paths = {module.path.removesuffix("/__init__.py") for module in modules.values()}
    return sorted(
        path for path in paths if _is_participle(path.rpartition("/")[2].removesuffix(".py"))
    )


def _is_participle(name: str) -> bool:
    word = name.rpartition("_")[2]
    by_form = word.endswith(("ed", "ing")) or word in IRREGULAR
    return by_form and word not in NOUNS and name not in LAYER_NAMES


def top_folder(path: str) -> str:
    """The folder that exceptions are counted by: the first two names, one for a lone file."""
    return "/".join(path.split("/")[:-1][:2])


def docstrings_that_ask(modules: Mapping[str, Module]) -> dict[str, int]:
    """Top folder -> number of its docstrings that begin with a question word."""
    found = Counter[str]()
    for module in modules.values():
        asking = [text for _, text in module.docstrings() if QUESTION.match(text)]
        found[top_folder(module.path)] += len(asking)
    return {folder: number for folder, number in sorted(found.items()) if number}


def packages_without_docstring(modules: Mapping[str, Module]) -> list[str]:
    """Folders of modules without an `__init__`, or with one that has no docstring."""
    texts = _package_docstrings(modules)
    return sorted(folder for folder, text in texts.items() if not text)


def packages_with_short_docstring(modules: Mapping[str, Module]) -> list[str]:
    """Packages whose docstring is a single line."""
    texts = _package_docstrings(modules)
    return sorted(folder for folder, text in texts.items() if len(text.splitlines()) == 1)


def _package_docstrings(modules: Mapping[str, Module]) -> dict[str, str]:
    texts = {module.folder: "" for module in modules.values()}
    packages = (module for module in modules.values() if module.is_package)
    return texts | {m.folder: dict(m.docstrings()).get("", "") for m in packages}


def fixed_frameworks(modules: Mapping[str, Module]) -> list[str]:
    """Lists of frameworks in the core that no third party's adapter can join, as "path: line".

    They are literals with the names of two frameworks, and calls of the registry that run when a
    module is imported, in a default value too.
    """
    core = (module for module in modules.values() if not module.path.startswith("converters/"))
    return sorted(f"{m.path}: {n}" for m in core for n in (*_named_twice(m), *_at_import(m)))


def _named_twice(module: Module) -> Iterator[int]:
    for node in ast.walk(module.tree):
        if isinstance(node, (ast.Tuple, ast.List, ast.Set)):
            items = {item.value for item in node.elts if isinstance(item, ast.Constant)}
            if len(items & FRAMEWORKS) > 1:
                yield node.lineno


def _at_import(module: Module) -> Iterator[int]:
    later = {
        id(inner)
        for function in module.functions()
        for line in function.body
        for inner in ast.walk(line)
    }
    for node in ast.walk(module.tree):
        if not isinstance(node, ast.Call) or id(node) in later:
            continue
        if getattr(node.func, "attr", "") in ("frameworks", "names"):
            yield node.lineno


def files_beside_converters(root: Path) -> list[str]:
    """Files directly in `converters/` but for `__init__.py`."""
    files = (path.name for path in (root / "converters").iterdir() if path.is_file())
    return sorted(set(files) - {"__init__.py"})
