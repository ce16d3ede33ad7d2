"""Sphinx settings for `make docs`: pages of this folder, and the reference from docstrings."""

from sphinx.application import Sphinx

from xlstm._version import VERSION

project = "xlstm-converter"
author = "xlstm-converter developers"
project_copyright = f"the {author}"
version = release = VERSION

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
]
source_suffix = {".md": "markdown"}
root_doc = "index"
exclude_patterns = ["tables"]

html_theme = "furo"
html_title = f"xlstm-converter {VERSION}"
html_show_sphinx = False

myst_heading_anchors = 3  # links such as files.md#weights-alone

default_role = "code"  # `name` in a docstring is code, as in Markdown
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_use_legacy_class_based = False
python_maximum_signature_line_length = 80
autosummary_generate = False  # the page names its entries
napoleon_google_docstring = True
napoleon_numpy_docstring = False

# annotations name types of numpy and of typing, and aliases such as Array: no page has these
nitpick_ignore_regex = [("py:.*", r".*")]


def setup(app: Sphinx) -> None:
    """Adds what Sphinx has no setting for."""
    app.connect("source-read", with_studies)


def with_studies(app: Sphinx, name: str, content: list[str]) -> None:
    """Turns links to the studies in `benchmarks/` into links to their pages here."""
    content[0] = content[0].replace("](../benchmarks/", "](benchmarks/")
