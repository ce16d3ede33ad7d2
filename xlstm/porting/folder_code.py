"""Checks or runs a ported folder's own `model.py`, outside of `verify`.

In: the path of a folder. Out: a warning, or the model that its code builds.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from xlstm.errors import FileError, XlstmError
from xlstm.files.guards import MAX_TEXT, open_regular
from xlstm.files.port_folder import SOURCE, has_port
from xlstm.porting.port import build
from xlstm.reading.folder_code import other_code
from xlstm.reading.ports import read_folder, target_of


def modified_model_file(path: object) -> str:
    """A warning for a ported folder of which only the graph is read; "" if its code is unchanged.

    Args:
        path: anything; only a path to a ported folder has code.
    """
    if not isinstance(path, (str, os.PathLike)) or not has_port(Path(path)):
        return ""
    folder = Path(path)
    why = other_code(folder, read_folder(folder), target_of(folder))
    if not why:
        return ""
    return (
        f"{SOURCE} of {folder.name} {why}; it was not run, the graph alone was compared. Import it "
        "and pass the module it gives, or look at it and compare it with --trust"
    )


def own_object(folder: Path) -> Any:
    """Runs the folder's own `model.py`, and returns its model in float64.

    Raises:
        MissingFrameworkError: the target is not installed.
        XlstmError: a folder that cannot be read, or code that does not run to its end.
    """
    model, adapter = read_folder(folder), target_of(folder)
    adapter.check_installed()
    with open_regular(folder / SOURCE) as file:
        text = file.read(MAX_TEXT + 1).decode("utf-8", "replace")
    try:
        return build(model, adapter, "float64", text)
    except XlstmError:
        raise
    except Exception as error:
        got = f"{type(error).__name__}: {error}"
        raise FileError(folder / SOURCE, "code that gives the model", got, "fix it") from error
