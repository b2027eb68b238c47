"""Which lake a run belongs to, where several share one instance: their shards have the same keys."""

from collections.abc import Iterable

import dagster as dg

SCOPE_TAG = "star/scope"
"""Tag of our jobs: the lake's key prefix, joined by slashes."""


def pool_of(scope: str) -> str:
    """The pool of one run that the loop of the lake with this key prefix (joined by slashes) shares."""
    return "_".join([*filter(None, scope.split("/")), "star_loop"])


def scope_of(run: dg.DagsterRun) -> str:
    """The key prefix of the run's lake, joined by slashes; empty for a lake without one. Ad-hoc runs tell it by their assets."""
    if SCOPE_TAG in run.tags:
        return run.tags[SCOPE_TAG]
    return scope_in(run.asset_selection or ())


def scope_in(assets: Iterable[dg.AssetKey]) -> str:
    """The scope that these assets share; empty where there are none."""
    return next(("/".join(key.path[:-1]) for key in assets), "")
