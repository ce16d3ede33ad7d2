"""Files of Keras 1 to 3. In: a path. Out: a `Description`: architecture, weights, versions.

Read `archive` (`.keras`), `hdf5` (`.h5`) or `folder`, then `architecture` and `variables`.
"""
