"""Names of models become paths that stay in the target and never meet."""

import posixpath
import unicodedata

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from xlstm.fleets.storage.names import DEVICE, UNSAFE, file_of, folder_of

TEXT = st.text(st.characters(), max_size=300) | st.text("aAbBäÄ./\\~d :\x00-", max_size=12)
PARTS = st.lists(st.sampled_from(["a", "A", "b", "a.d", "..", "", "con", "COM1.h5", "ﬁ", "é", "é"]))
NAME = TEXT | PARTS.map("/".join) | st.text("ab", min_size=100, max_size=700)


def key(path):
    """A path as the least precise file system compares it."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())


@settings(max_examples=300, deadline=None)
@given(NAME, NAME)
@example("a", "a/b")
@example("a/b", "a.d/b")
@example("A", "a")
@example("é", "é")
@example("..", "../..")
@example("con", "CON")
@example("x" * 300, "x" * 301)
@example("\ud800", "?")
def test_paths_stay_inside_and_never_meet(one, two):
    for folds in (False, True):
        paths = [folder_of(name, folds) for name in (one, two)]
        for path in paths:
            assert posixpath.normpath(path) == path
            for part in path.split("/"):
                assert part.isprintable()
                assert part[0] not in ". "
                assert part[-1] not in ". "
                assert not UNSAFE.search(part.replace("~", ""))
                assert not DEVICE.fullmatch(part)
                assert len(part.encode()) <= 255
            assert len(path.encode()) <= 600
        if one != two:
            first, second = (key(path) if folds else path for path in paths)
            assert first != second
            assert not f"{second}/".startswith(f"{first}/")
            assert not f"{first}/".startswith(f"{second}/")


@pytest.mark.parametrize("name", ["0001", "customers/0001", "LSTM_v2", "模型/a", "x-1.2"])
def test_plain_names_are_kept(name):
    assert folder_of(name).replace(".d/", "/") == name


@settings(max_examples=100, deadline=None)
@given(TEXT, TEXT)
def test_files_of_workers_never_meet(one, two):
    assert (file_of(one) == file_of(two)) == (one == two)
    assert "/" not in file_of(one)
