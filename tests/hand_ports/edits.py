"""Text edits that make a right port wrong, and what any honest explanation of each must say.

The files of `mistakes/` hold one block for each kind of mistake:

    kind = key of the true cause
      says: words ;; words
      old: an expression that finds a place in the text of a port
      new: its new text
      in: an expression for the names of programs
      layers: names

An honest explanation matches each of the words. `old` and `new` may be repeated, or be replaced by
a name of `places.py`. `in` and `layers` belong to the rules just before; the layers are otherwise
those of the comment at the place. `pairs.txt` lists the places where an edit changes outputs.

The words were written from the mistakes alone, by somebody who did not know what `diagnose` names.

The first run over all pairs showed mistakes of this key, which were corrected. Two lines had the
layer of the line before them. An activation or a pick that stands between two layers concerns both
(relu-between-rnns, h-of-lower-layer). Five pairs changed the gates or the second bias of a GRU in
an LSTM, or in a GRU with one bias: they are left out.

`mistakes/unseen.txt` was written later, by somebody who knew neither the causes nor the counts. No
cause was added for it: its pairs, in `unseen_pairs.txt`, tell what `diagnose` makes of new ones.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hand_ports.places import PLACES, Rule, Rules
from hand_ports.programs import Program, program

FOLDER = Path(__file__).parent / "mistakes"
PAIRS = Path(__file__).parent / "pairs.txt"
UNSEEN = Path(__file__).parent / "unseen_pairs.txt"


@dataclass(frozen=True)
class Edit:
    """One kind of mistake.

    Attributes:
        kind: a short name, unique.
        cause: the key of the true cause; several kinds may be the same mistake in other places.
        words: expressions, each of which an honest explanation matches somewhere.
        rules: the places.
    """

    kind: str
    cause: str
    words: tuple[str, ...]
    rules: Rules


@dataclass(frozen=True)
class Pair:
    """One edit at one place of one program; `place` counts the places of all rules."""

    program: str
    edit: Edit
    place: int
    layers: tuple[str, ...]
    port: str

    @property
    def id(self) -> str:
        """The program, the kind and the place."""
        return f"{self.program}/{self.edit.kind}/{self.place}"

    def named(self, layer: str, text: str, inputs: Sequence[str] = ()) -> bool:
        """True if an explanation names the true cause, in its words, and one of its layers.

        Args:
            layer: the place that the explanation names: a layer's name, or a path with one.
            text: its words.
            inputs: the names of the model's inputs, any of which stands for "input".
        """
        pieces = {layer, *re.split(r"[^\w]+", layer)}
        expected = {*self.layers, *(inputs if "input" in self.layers else ())}
        return bool(pieces & expected) and self.said(text)

    def said(self, text: str) -> bool:
        """True if a text holds all words of the true cause, whatever layer it speaks of."""
        return all(re.search(word, text, re.IGNORECASE) for word in self.edit.words)


@functools.cache
def edits() -> dict[str, Edit]:
    """All kinds of mistakes, by name, in the order of the files."""
    names: dict[str, str] = {}
    for line in (FOLDER / "names.txt").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            name, value = line.split(" = ", 1)
            names[f"<<{name}>>"] = value
    made = {}
    for path in sorted(FOLDER.glob("*.txt")):
        for block in path.read_text(encoding="utf-8").split("\n\n")[1:]:
            if path.stem != "names":
                edit = read(re.sub(r"<<\w+>>", lambda found: names[found[0]], block).strip("\n"))
                made[edit.kind] = edit
    return made


def read(block: str) -> Edit:
    """Reads one block of a file of edits."""
    head, *lines = block.split("\n")
    kind, cause = head.split(" = ")
    words: tuple[str, ...] = ()
    rules: list[Rule] = []
    last, old = 0, ""
    for line in lines:
        key, _, value = line.strip(" ").partition(":")
        value = line.partition(": ")[2]
        if key == "says":
            words = tuple(value.split(" ;; "))
        elif key == "old":
            old = value
        elif key in ("in", "layers"):
            change = {"programs": value} if key == "in" else {"layers": tuple(value.split(", "))}
            rules[last:] = [dataclasses.replace(rule, **change) for rule in rules[last:]]
        else:
            last = len(rules)
            rules += [Rule(old, value)] if key == "new" else PLACES[key](*value.split(" ;; "))
    return Edit(kind, cause, words, tuple(rules))


def places(edit: Edit, source: Program) -> Iterator[Pair]:
    """Applies an edit at every place of one program, one place a pair."""
    place = 0
    for rule in edit.rules:
        if not re.search(rule.programs, source.name):
            continue
        for found in re.finditer(rule.old, source.port, re.MULTILINE):
            before, after = source.port[: found.start()], source.port[found.end() :]
            at = found.start() + len(found[0]) - len(found[0].lstrip())
            layers = rule.layers or source.layers_at(at)
            yield Pair(source.name, edit, place, layers, before + found.expand(rule.new) + after)
            place += 1


def pair(name: str) -> Pair:
    """Gives the pair with an id; raises KeyError where there is no such place."""
    source, kind, place = name.split("/")
    for found in places(edits()[kind], program(source)):
        if found.place == int(place):
            return found
    raise KeyError(name)


def pair_names(file: Path = PAIRS) -> tuple[str, ...]:
    """Ids of all pairs that `pairs.txt` lists."""
    return tuple(file.read_text(encoding="utf-8").split())
