"""Emitted source is formatted whatever the lengths of the layers' names."""

import random
import re
import subprocess
import sys
from dataclasses import replace

import pytest
from cases import CASES
from cases_layers import CASES_LAYERS
from golden import MODELS

from xlstm.frameworks import registry
from xlstm.ir.graph import Edge


def renamed(model, rng):
    """The model with longer names."""
    names = {name: f"{name}_{'x' * rng.randrange(45)}" for name in model.names}

    def edge(old):
        return old and Edge(names[old.node], old.output)

    nodes = tuple(
        replace(
            node,
            name=names[node.name],
            inputs=tuple(map(edge, node.inputs)),
            states=tuple(map(edge, node.states)),
            mask=edge(node.mask),
            layer=node.layer and names[node.layer],
        )
        for node in model.nodes
    )
    return replace(
        model,
        nodes=nodes,
        inputs=tuple(names[name] for name in model.inputs),
        outputs=tuple(map(edge, model.outputs)),
        weights={names[name]: arrays for name, arrays in model.weights.items()},
    )


@pytest.mark.parametrize("framework", registry.frameworks())
def test_source_with_long_names_is_lint_clean_and_formatted(framework, tmp_path):
    rng, adapter = random.Random(7), registry.adapter(framework)
    models = {**{make.__name__: make() for make in MODELS}, **CASES, **CASES_LAYERS}
    for case, model in models.items():
        name = re.sub("[^0-9A-Za-z]", "_", case)
        (tmp_path / f"{name}.py").write_text(adapter.emit(renamed(model, rng)))
    for args in (["check"], ["format", "--check", "--diff"]):
        command = [sys.executable, "-m", "ruff", *args, "--isolated", str(tmp_path)]
        found = subprocess.run(command, capture_output=True, text=True)
        assert found.returncode == 0, found.stdout + found.stderr
