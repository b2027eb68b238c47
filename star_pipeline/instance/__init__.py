"""The lake's own Dagster instance: ``home`` opens it, ``processes`` tells dead runs, ``queue`` keeps the shards' order, ``storage``
keeps its SQLite files open, ``scopes`` tells one lake's runs from another's. A lake's ``dagster.yaml`` names these modules: their paths
stay. Assets, jobs and sensors live in ``star_pipeline.defs``.
"""

from star_pipeline.instance.home import database_of, open_instance
from star_pipeline.instance.processes import fail_dead_runs

__all__ = ["database_of", "fail_dead_runs", "open_instance"]
