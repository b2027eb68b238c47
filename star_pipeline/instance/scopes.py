"""Which lake a run belongs to, where several share one instance: their shards have the same keys."""

import dagster as dg

SCOPE_TAG = "star/scope"
"""Tag of our jobs: the lake's key prefix, joined by slashes."""
POOL = "star_loop"


def scope_of(run: dg.DagsterRun) -> str:
    """The key prefix of the run's lake, joined by slashes; empty for a lake without one. Ad-hoc runs tell it by their assets."""
    if SCOPE_TAG in run.tags:
        return run.tags[SCOPE_TAG]
    for key in run.asset_selection or ():
        return "/".join(key.path[:-1])
    return ""
