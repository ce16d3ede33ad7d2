"""The text for the package index: the README without links that lead nowhere there.

The links of the README are relative. The index has no such files, and the project has no public
address yet. So each link becomes its words; all else is in pyproject.toml.
"""

import re
from pathlib import Path

from setuptools import setup

LINK = re.compile(r"(!?)\[([^\]]*)\]\((?!https?://)[^)\s]+\)")


def index_text(readme: str) -> str:
    """The README with the words of each relative link in its place; pictures are left out."""
    return LINK.sub(lambda found: "" if found[1] else found[2], readme)


setup(
    long_description=index_text(Path("README.md").read_text("utf-8")),
    long_description_content_type="text/markdown",
)
