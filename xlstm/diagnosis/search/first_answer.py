"""The first answer, before any cause is looked for: whether the two differ, and in their weights.

In: what is compared and how far the outputs are apart. Out: one line, and the words that a
difference without a known cause is explained with.
"""

from __future__ import annotations

from collections.abc import Sequence

from xlstm.diagnosis.hypothesis.hypothesis import parts
from xlstm.diagnosis.pairing import weights
from xlstm.diagnosis.pairing.names import listed
from xlstm.diagnosis.pairing.tensors import Paired
from xlstm.diagnosis.search.search import Explained
from xlstm.diagnosis.state import DiagnosisState
from xlstm.diagnosis.tolerance import Gap


def first(case: DiagnosisState, paired: Paired, gap: Gap) -> None:
    """Tells the first answer, and keeps what it says of the weights."""
    about = _weights(case, paired)
    if gap.same:
        case.effort.tell("the outputs are equal up to rounding")
        return
    far = f"the outputs differ by up to {gap.most:.3g}" if gap.most < float("inf") else ""
    case.effort.tell(f"different: {'; '.join(filter(None, (far or _shapes(gap), about)))}")
    case.about = f"{about[:1].upper()}{about[1:]}."


def _shapes(_gap: Gap) -> str:
    return "the outputs have other shapes, or no numbers"


def _weights(case: DiagnosisState, paired: Paired) -> str:
    """A phrase about the suspect's weights."""
    own = [n for n in case.a.layers if not n.layer and parts(n.spec) and case.a.weights.get(n.name)]
    if not own:
        return "there are no weights: the mistake is in the code"
    known = weights.facts(case.a, paired)
    bad = [
        node.name
        for node in own
        if node.name in known
        and weights.differing(case.a, node, case.a.weights[node.name], known[node.name])
    ]
    if bad:
        return f"the weights of {listed(bad)} differ"
    if missing := [node.name for node in own if node.name not in known]:
        return f"the weights of {listed(missing)} are not known by their names in b"
    where = (
        "the code of forward" if case.b.run is not None else "the options or the order of layers"
    )
    return f"all weights are equal: the mistake is in {where}"


def between(one: Explained, before: Sequence[Explained], equal: frozenset[str]) -> str:
    """A sentence about where to look, for a difference without a known cause; "" for none.

    Args:
        one: the difference.
        before: what was seen before it.
        equal: layers whose weights are a's.
    """
    layer = one.point.edges[0].node if one.point.name else ""
    same = [seen.point.name for seen in before if seen.gap.same and seen.point.name]
    if any(not seen.gap.same for seen in before) or not (same or layer):
        return ""
    if not layer:
        return f"All layers up to your {same[-1]} agree: look at the lines after it."
    own = "" if layer not in equal else f"your {one.point.name} has a's weights"
    last = f"your {same[-1]} gives what a's does" if same else ""
    said = ", and ".join(filter(None, (own, last)))
    if not said:
        return ""
    after = f"between {same[-1]} and {one.point.name}" if same else f"before {one.point.name}"
    return f"{said[:1].upper()}{said[1:]}: look at the lines {after}, and at that layer's own code."
