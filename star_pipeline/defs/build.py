"""One builder of the definitions, the same for the command, the UI, the component and the tests."""

import logging
import os
from collections.abc import Mapping, Sequence
from datetime import timedelta

import dagster as dg

from star_pipeline.adapters.stores.paths import absolute
from star_pipeline.config import StarConfig
from star_pipeline.core.aliases import JsonMapping
from star_pipeline.core.errors import StarError
from star_pipeline.defs.assets import ALL_ASSETS, study_assets
from star_pipeline.defs.io_manager import LakeTables
from star_pipeline.defs.jobs import make_jobs
from star_pipeline.defs.partitions import external_assets
from star_pipeline.defs.resources import (
    ChatResource,
    EmbedderResource,
    LakeLockResource,
    LakeResource,
    MemoryResource,
    ProgressResource,
    ScorerResource,
    SettingsResource,
    SharedLakeResource,
    ToldChatResource,
)
from star_pipeline.defs.schedules import nightly, publish_follows
from star_pipeline.defs.scope import Presentation, Scope
from star_pipeline.defs.seed_sensor import seed_files_sensor
from star_pipeline.defs.study_job import STUDY
from star_pipeline.defs.study_resource import StudyResource
from star_pipeline.instance.home import warn_of_another_home

DEFAULT_CONFIG, DEFAULT_LAKE = "offline", "data_lake"


def build_defs(
    resource_overrides: Mapping[str, object] | None = None,
    config: str | JsonMapping | None = None,
    lake: str | None = None,
    prefix: Sequence[str] = (),
) -> dg.Definitions:
    """The definitions of one lake.

    ``config`` is a profile's name, a YAML path, or the settings themselves (default: environment STAR_CONFIG, else ``offline``),
    ``lake`` the lake's root (default: STAR_LAKE, else ``data_lake`` in the working folder). ``prefix`` leads every asset's key, and
    every other name, so that several lakes do not collide. ``resource_overrides`` replaces resources by their plain names.
    """
    scope = Scope(tuple(prefix))
    root = LakeResource(root=absolute(lake or os.environ.get("STAR_LAKE") or DEFAULT_LAKE))
    if not prefix:
        warn_of_another_home(root.open())
    overrides = dict(resource_overrides or {})
    settings = SettingsResource.of(config or os.environ.get("STAR_CONFIG") or DEFAULT_CONFIG)
    if isinstance(given := overrides.get("settings"), SettingsResource):
        settings = given
    progress = overrides.get("progress") or ProgressResource()
    resources: dict[str, object] = {
        "lake": root,
        "settings": settings,
        "chat": ToldChatResource(settings=settings, lake=root, progress=progress),
        "scorer": ScorerResource(settings=settings, lake=root, progress=progress),
        "embedder": EmbedderResource(settings=settings, lake=root, progress=progress),
        "memory": MemoryResource(lake=root, settings=settings),
        "progress": progress,
        "io_manager": LakeTables(lake=root),
        STUDY: StudyResource(),
        **overrides,
    }
    lock = _lock(root, settings, resources)
    configured = _configured(settings)
    study = configured.study if configured else None
    shown, jobs = _presentation(configured), make_jobs(scope, study)
    # "Materialize all" makes a study too, for hours: so it is there for who has asked for one
    assets = [*ALL_ASSETS, *(study_assets(study) if study else ())]
    return dg.Definitions(
        assets=[*external_assets(scope, shown), *(asset.build(scope, shown) for asset in assets)],
        jobs=jobs,
        sensors=[seed_files_sensor(scope, jobs), publish_follows(scope)],
        schedules=[nightly(scope)],
        resources={scope.name(name): resource for name, resource in {"lake_lock": lock, **resources}.items()},
        # a team's own project has its own executor
        executor=None if prefix else dg.in_process_executor,
    )


def _lock(lake: LakeResource, settings: SettingsResource, resources: Mapping[str, object]) -> LakeLockResource:
    """With agents and embeddings that it can ask ahead; any other is not known."""
    chat, embedder = resources["chat"], resources["embedder"]
    if isinstance(chat, ChatResource) and isinstance(embedder, EmbedderResource):
        return SharedLakeResource(lake=lake, settings=settings, chat=chat, embedder=embedder)
    return LakeLockResource(lake=lake, settings=settings)


def _configured(settings: SettingsResource) -> StarConfig | None:
    """The configuration; None where it cannot be read, which must not keep the UI from loading."""
    try:
        return settings.load()
    except StarError as error:
        logging.getLogger(__name__).warning("%s", error)
        return None


def _presentation(configured: StarConfig | None) -> Presentation:
    """Owners and freshness as configured."""
    if configured is None:
        return Presentation()
    hours = configured.ui.fresh_within_hours
    policy = dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=hours)) if hours else None
    return Presentation(configured.ui.owners, policy)
