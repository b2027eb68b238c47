"""The lake's own Dagster instance: ``home`` opens it, ``processes`` tells dead runs, ``queue`` keeps the shards' order."""

from star_pipeline.instance.home import open_instance
from star_pipeline.instance.processes import fail_dead_runs

__all__ = ["fail_dead_runs", "open_instance"]
