"""One builder of the definitions, the same for production and tests; ``defs`` is what Dagster loads."""

import os
from collections.abc import Mapping
from typing import Any

import dagster as dg

from star_pipeline.automation import SCHEDULES, SENSORS
from star_pipeline.defs.assets import ALL_ASSETS
from star_pipeline.defs.io_manager import LakeTables
from star_pipeline.defs.jobs import JOBS
from star_pipeline.defs.partitions import prior_state, shard_manifest
from star_pipeline.defs.resources import (
    EmbedderResource,
    LakeLockResource,
    LakeResource,
    MemoryResource,
    ProgressResource,
    ScorerResource,
    SettingsResource,
    ToldChatResource,
)
from star_pipeline.instance.home import warn_of_another_home

DEFAULT_CONFIG, DEFAULT_LAKE = "offline", "data_lake"


def build_defs(
    resource_overrides: Mapping[str, Any] | None = None, config: str | None = None, lake: str | None = None
) -> dg.Definitions:
    """The project's definitions.

    ``config`` is a profile's name or a YAML path (default: environment STAR_CONFIG, else ``offline``), ``lake`` the lake's
    root (default: STAR_LAKE, else ``data_lake`` in the working folder). ``resource_overrides`` replaces resources by name.
    """
    root = LakeResource(root=os.path.abspath(lake or os.environ.get("STAR_LAKE") or DEFAULT_LAKE))
    warn_of_another_home(root.open())
    overrides = dict(resource_overrides or {})
    settings = overrides.get("settings") or SettingsResource(
        config=config or os.environ.get("STAR_CONFIG") or DEFAULT_CONFIG
    )
    progress = overrides.get("progress") or ProgressResource()
    resources: dict[str, Any] = {
        "lake": root,
        "settings": settings,
        "lake_lock": LakeLockResource(lake=root),
        "chat": ToldChatResource(settings=settings, lake=root, progress=progress),
        "scorer": ScorerResource(settings=settings, lake=root, progress=progress),
        "embedder": EmbedderResource(settings=settings),
        "memory": MemoryResource(lake=root, settings=settings),
        "progress": progress,
        "io_manager": LakeTables(lake=root),
        **overrides,
    }
    return dg.Definitions(
        assets=[shard_manifest, prior_state, *ALL_ASSETS],
        jobs=JOBS,
        sensors=SENSORS,
        schedules=SCHEDULES,
        resources=resources,
        # concurrency inside a shard is asyncio within an asset; a process for each step would cost seconds a step
        executor=dg.in_process_executor,
    )


defs = build_defs()
