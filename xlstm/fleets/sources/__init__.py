"""The models of a fleet: found in folders, patterns, lists and URLs, and copied to local files.

    for entry in entries(["zoo", "s3://bucket/zoo/**/*.h5"]):
        with local_copy(entry, job) as path:
            ...

In: sources as text. Out: a sorted list of `FleetEntry`, and local paths.

`find` gives models their names, `search` searches folders and URLs, `manifest` reads lists, and
`download` copies objects.
"""

from xlstm.fleets.sources.download import local_copy, local_options
from xlstm.fleets.sources.find import entries

__all__ = ["entries", "local_copy", "local_options"]
