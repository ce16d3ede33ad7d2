"""Small model files for fleets: the demo under other names of its layer."""

import zipfile

import xlstm


def write_model(path, layer="lstm"):
    """Writes the demo's model; its LSTM is called `layer`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(xlstm.demo.path()) as source, zipfile.ZipFile(path, "w") as copy:
        for name in source.namelist():
            content = source.read(name)
            if name == "config.json":
                content = content.replace(b'"name": "lstm"', f'"name": "{layer}"'.encode())
            copy.writestr(name, content)
    return path


def write_zoo(folder, **layers):
    """Writes one file for each keyword, whose LSTM is called by the value."""
    for name, layer in layers.items():
        write_model(folder / f"{name}.keras", layer)
    return folder
