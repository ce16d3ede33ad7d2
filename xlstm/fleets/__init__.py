"""Ports thousands of models in one run, on one machine or on a Dask cluster.

In: sources (folders, globs, a manifest; local or any fsspec URL), a target framework, and a target
folder or URL. Out: a port of each model, one row of a table for each, and a report.

Read in this order: `entry` (one model to do, and its row), `sources` (paths to entries), `storage`
(target, journal, lock), `work` (one model or a batch of one architecture), `run` (the schedule),
`report` (the table in words).
"""
