"""The target of a fleet: ports, rows and a lock, in a local folder or an object store.

    target = open_target("s3://bucket/ports")
    target.check(job)
    with target.locked():
        target.put_port("customers/0001", fill)
        target.put_row(row)

In: a path or a URL. Out: a `FleetTarget`, which workers get as an argument.

`target` has the interface, `local` and `store` the two kinds, `by_url` the choice of one. `names`
turns names of models to paths, `journal` has the lines of rows, `lease` the lock of stores, and
`remote` the errors of fsspec.
"""

from xlstm.fleets.storage.by_url import open_target
from xlstm.fleets.storage.target import FleetTarget

__all__ = ["FleetTarget", "open_target"]
