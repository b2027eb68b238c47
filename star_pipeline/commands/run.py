"""``star-pipeline run``: everything new or changed, in order, through the same assets and instance that the UI shows."""

import contextlib
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import dagster as dg

from star_pipeline.adapters.calibration_files import calibrated_since
from star_pipeline.adapters.consistency import misfits
from star_pipeline.adapters.dataset_files import is_published, made_of, read_manifest
from star_pipeline.adapters.decontamination import question_files
from star_pipeline.adapters.interrupts import noticed
from star_pipeline.adapters.journal.older import passed_over as passed_over_journal
from star_pipeline.adapters.journal.older import require_copied
from star_pipeline.adapters.journal.opening import read_spend
from star_pipeline.adapters.lake import Lake, content_hash
from star_pipeline.adapters.locks import lake_lock
from star_pipeline.adapters.preflight import check_agents, check_scoring_models
from star_pipeline.adapters.question_files import read_questions
from star_pipeline.adapters.scoring import present_weights
from star_pipeline.adapters.scoring_weights import RESCORE_TAG, changed_since, settle_weights
from star_pipeline.adapters.seed_files import passed_over, seed_files
from star_pipeline.adapters.seed_intake import taking_in
from star_pipeline.adapters.shard_state import drawn_unlearnt, has_output, plan_is_outdated
from star_pipeline.adapters.snapshots import REFOLD_TAG, follows
from star_pipeline.adapters.study_files import studied_since
from star_pipeline.commands.ahead import COSTLY, Ahead, Upcoming
from star_pipeline.commands.calibrate import calibration_told
from star_pipeline.commands.failed_runs import why_failed
from star_pipeline.commands.retries import Retries
from star_pipeline.commands.workspace import told_of_workspace
from star_pipeline.config import StarConfig, load_config
from star_pipeline.config.scoring import ServedModel
from star_pipeline.core.errors import ConfigError, ModelError, StarError
from star_pipeline.core.health.examination import RULES
from star_pipeline.core.intake.catalog import CatalogUpdate
from star_pipeline.core.planning.restart import AssetState, Reason, ShardState, assets_to_make
from star_pipeline.core.ports import Progress
from star_pipeline.core.tables import (
    AGENT_PAIR_PROBABILITIES,
    IFD_SCORES,
    SAMPLING_PLAN,
    SHARD_TABLES,
    TASK_DOMAINS,
)
from star_pipeline.defs.assets.seed_catalog import scan_seed_files
from star_pipeline.defs.build import build_defs
from star_pipeline.defs.jobs import AGAIN, FREE, LOOP, PAID_FOR, PARENTS, PUBLISHED
from star_pipeline.defs.resources import LakeLockResource, LakeResource, progress_to, settings_as_read
from star_pipeline.defs.scope import Scope
from star_pipeline.inspection.build import is_current
from star_pipeline.instance import database_of, fail_dead_runs, open_instance
from star_pipeline.instance import tags as run_tags
from star_pipeline.instance.processes import process_tags

QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
"""Run configuration of a run whose progress is on the terminal: Dagster's own lines are kept off it."""


class RunFailed(StarError):
    """A Dagster run of this command failed; what was made before stays."""


@dataclass(frozen=True)
class RunOutcome:
    """What a ``run`` did; ``shards`` are those it worked on, ``warnings`` the checks that did not pass, a line each; ``to_try``
    the rows that another run tries again, a line each table."""

    update: CatalogUpdate
    taken_in: tuple[str, ...]
    shards: tuple[str, ...]
    published: bool
    seconds: float
    warnings: tuple[str, ...] = ()
    to_try: tuple[str, ...] = ()

    @property
    def idle(self) -> bool:
        return not (self.shards or self.published or self.update.changed)


def run_pipeline(
    config: str,
    lake: Lake,
    seeds: Sequence[str],
    progress: Progress,
    resource_overrides: Mapping[str, object] | None = None,
    again: Mapping[str, Sequence[str]] | None = None,
    ahead: bool = True,
) -> RunOutcome:
    """Take the seed files in, process each shard that is not done, publish. Raises StarError; what is made stays made.

    ``resource_overrides`` replaces resources by name, as in ``build_defs``. ``again`` names what to make again (a key of
    ``jobs.AGAIN``) and of which shards (keys, or ``all``). Without ``ahead`` one thing is done after the other: it makes the same.
    """
    began = time.monotonic()
    settings = load_config(config)
    lake.prepare()
    for line in (*told_of_workspace(lake, settings), passed_over_journal(settings, lake)):
        if line:
            progress.note(line)
    with lake_lock(settings, lake).hold("star-pipeline run"), noticed() as interrupted:
        instance = open_instance(lake, at_the_console=True, database=database_of(settings), held=True)
        with instance, lake.as_listed("tables"):  # who holds the lake is the only one that writes shards
            lake.sweep()
            for line in calibration_told(lake, settings, config):
                progress.note(line)
            for run_id in fail_dead_runs(instance, try_again=False):
                progress.note(f"run {run_id[:8]} was killed before it ended; going on from what it finished")
            before = {path.name for path in seed_files(lake.seeds)}
            with taking_in(lake, seeds, progress.note) as given:
                update = scan_seed_files(lake, settings, given).update
            if others := passed_over(lake.seeds):
                progress.note(others)
            for name in before.intersection(given):
                progress.note(f"seeds/{name} was there with other content and has been replaced")
            work = _Work(config, settings, lake, instance, progress, resource_overrides or {}, ahead, interrupted)
            shards = sorted({entry.shard for entry in update.entries})
            work.make_again(again or {}, shards)
            work.take_in(update, shards)
            if (unlearnt := drawn_unlearnt(lake, update.entries, settings.evolution.lag)) and unlearnt.is_much:
                progress.note(unlearnt.text)
            with contextlib.closing(work):
                worked = [shard for place, shard in enumerate(shards) if work.shard(place)]
            work.look_at_weights()
            published = work.publish()
    seconds = time.monotonic() - began
    return RunOutcome(update, tuple(given), tuple(worked), published, seconds, work.warnings, work.to_try)


class _Work:
    """One run's dealings with Dagster."""

    def __init__(
        self,
        config: str,
        settings: StarConfig,
        lake: Lake,
        instance: dg.DagsterInstance,
        progress: Progress,
        overrides: Mapping[str, object],
        ahead: bool,
        interrupted: Callable[[], bool],
    ) -> None:
        class Stoppable(LakeLockResource):
            """Each step asks it first: a Ctrl-C that was lost in the step before, or ahead of the first, stops the run here."""

            def require(self) -> None:
                if interrupted():
                    raise KeyboardInterrupt
                super().require()

        self._settings = settings
        self._replaced, self._interrupted = set(overrides), interrupted
        self._checked = False
        self._had_bank = bool(lake.memory_bank.exists())
        told, fixed = progress_to(progress), settings_as_read(settings, config)
        # a batch is to hold a whole stage, and what is asked ahead goes out a few at a time; a budget that ends is to leave whole shards
        ahead = ahead and "chat" not in overrides and settings.budget.usd is None
        ahead = ahead and all(agent.mode == "live" for agent in settings.agents_in_use.values())
        self._ahead = Ahead(settings, lake, progress, overrides) if ahead else None
        shared = self._ahead.resources(fixed, told) if self._ahead else {}
        lock = Stoppable(lake=LakeResource(root=str(lake.root)), settings=fixed)
        given = {"progress": told, "settings": fixed, "lake_lock": lock, **overrides, **shared}
        self._defs = build_defs(given, config, str(lake.root))
        self._shards: Sequence[str] = ()
        self._lacking: dict[str, dict[str, Reason]] = {}
        self._lake, self._instance, self._progress = lake, instance, progress
        self._ids: dict[str, dict[str, int]] = {}
        self._again: dict[str, set[str]] = {}
        self._warned: dict[tuple[str, str], list[str]] = {}
        self._retries = Retries(lake, settings, "chat" in self._replaced)

    @property
    def warnings(self) -> tuple[str, ...]:
        """One line for each check that did not pass, with the last shard's finding; the others are counted.

        The checks of health are no part of it: the lake holds what they say, for this run and for any later one.
        """
        of_health = {rule.name for rule in RULES.values()}
        return tuple(
            f"{asset}, {check}: {said[-1]}" + (f"; so in {len(said):,} shards" if len(said) > 1 else "")
            for (asset, check), said in self._warned.items()
            if check not in of_health
        )

    @property
    def to_try(self) -> tuple[str, ...]:
        return self._retries.left

    def take_in(self, update: CatalogUpdate, shards: Sequence[str]) -> None:
        """Bring the catalogue up to date where that is needed, and look up what has been made of the shards."""
        self._shards = shards
        known = set(self._instance.get_dynamic_partitions(str(Scope().partitions.name)))
        if update.changed or not known.issuperset(shards) or not self._last("seed_catalog"):
            self._progress.note(
                f"seeds: {update.live:,} live, {update.added:,} new in {len(update.new_shards):,} shards"
            )
            self._execute("take_in_seeds")
        for name in LOOP:
            self._ids[name] = dict(
                self._instance.event_log_storage.get_latest_storage_id_by_partition(
                    dg.AssetKey(name), dg.DagsterEventType.ASSET_MATERIALIZATION
                )
            )

    def make_again(self, wanted: Mapping[str, Sequence[str]], shards: Sequence[str]) -> None:
        """Note what is to be made again though nothing has changed. Raises ConfigError for a shard that is not there."""
        for what, chosen in wanted.items():
            for shard in shards if "all" in chosen else chosen:
                if shard not in shards:
                    listed = ", ".join(shards[:5]) + (" …" if len(shards) > 5 else "")
                    raise ConfigError(
                        f"--{what} {shard}: no such shard; expected one of {listed or 'none yet'}, or all"
                    )
                self._again.setdefault(shard, set()).add(AGAIN[what])

    def shard(self, place: int) -> bool:
        """Make what the shard at this place lacks, or has from before a change upstream; returns whether there was anything."""
        shard = self._shards[place]
        pending = self._pending(shard)
        if not pending:
            del self._lacking[shard]
            return False
        self._check_before_paying(pending)
        if self._ahead and COSTLY.intersection(pending):
            reach = range(place, min(place + self._settings.evolution.lag + 2, len(self._shards)))
            self._ahead.begin([Upcoming(n, self._shards[n], frozenset(self._found(self._shards[n]))) for n in reach])
        names = list(pending)
        what = names[0] if len(names) == 1 else f"{names[0]} … {names[-1]}"
        why = "" if pending[names[0]] == Reason.MISSING else f", {pending[names[0]]}"
        self._progress.note(f"shard {shard} ({place + 1} of {len(self._shards)}): {what}{why}")
        refold = names == [AGENT_PAIR_PROBABILITIES.name]
        tags = {REFOLD_TAG: "true"} if refold else {}
        if IFD_SCORES.name in self._again.get(shard, ()):
            tags[RESCORE_TAG] = "true"
        self._execute("process_shard", shard, names, tags)
        self._retries.look_again(shard)
        del self._lacking[shard]
        return True

    def close(self) -> None:
        """Nothing more is to be made of shards."""
        if self._ahead:
            self._ahead.close()

    def publish(self) -> bool:
        """Rebuild what is made of all shards where a table, a calibration, a study, a ``dataset`` setting or this program changed."""
        there = self._lake.has_table(TASK_DOMAINS) and is_current(self._lake) and self._lake.report.exists()
        there = there and not calibrated_since(self._lake, self._lake.report)
        there = there and not studied_since(self._lake, self._lake.report)
        questions = question_files(self._settings.dataset.decontaminate)
        there = there and is_published(self._lake, self._settings.dataset_fingerprint, questions)
        if there and self._published_these():
            return False
        self._progress.note("publishing the final data set, the inspection file and the report")
        self._execute("publish")
        return True

    def _published_these(self) -> bool:
        """Nothing was made since; or what was is what was there before, to the byte, as where an unchanged judge judged again."""
        last = [self._last(name) for name in PUBLISHED]
        if min(last) > max(self._last(name) for name in ("seed_catalog", *LOOP)):
            return True
        spend = read_spend(self._settings, self._lake)
        return last == sorted(last) and (read_manifest(self._lake) or {}).get("made_of") == made_of(self._lake, spend)

    def _check_before_paying(self, pending: Collection[str]) -> None:
        """Once, before the first work that costs: what would stop the run after money has been spent. Raises StarError."""
        costly = COSTLY.intersection(pending)
        if self._checked or not costly:
            return
        self._checked = True
        if questions := self._settings.dataset.decontaminate:
            read_questions(questions, self._settings.seed_fields)
        if "chat" not in self._replaced and costly != {"ifd_scores"}:
            require_copied(self._settings, self._lake)
            check_agents(self._settings)
        if "scorer" not in self._replaced and costly != {"judge_verdicts"}:
            check_scoring_models(self._settings.scoring)
            again = [shard for shard, names in self._again.items() if IFD_SCORES.name in names]
            settle_weights(self._lake, self._weights(), again, self._progress)

    def look_at_weights(self) -> None:
        """At the end: say where the scores are of other weights than a model has now, though there was nothing to score."""
        models = self._settings.scoring.models
        served = any(isinstance(model, ServedModel) for model in models)
        here = not served and all(name.startswith("offline/") or Path(name).is_dir() for name in map(str, models))
        if "scorer" in self._replaced or not here:  # a server or the hub is not asked for that alone
            return
        with contextlib.suppress(ModelError):  # no model is needed where there is nothing to score
            present = self._weights()
            if changed := changed_since(self._lake, present):
                self._progress.note(changed)
            elif self._again:
                settle_weights(self._lake, present, (), self._progress)

    def _weights(self) -> Mapping[str, str]:
        return present_weights(self._settings.scoring, self._lake, self._progress)

    def _last(self, name: str) -> int:
        records = self._instance.fetch_materializations(dg.AssetKey(name), limit=1).records
        return int(records[0].storage_id) if records else 0

    def _adopt(self, shard: str) -> None:
        """Tell Dagster of tables it does not know: written just before a kill, or by an instance that is gone. They are paid."""
        for spec in SHARD_TABLES:
            if shard not in self._ids[spec.name] and self._lake.has_table(spec, shard):
                version = content_hash(self._lake.read_arrow(spec, shard))
                self._instance.report_runless_asset_event(
                    dg.AssetMaterialization(
                        spec.name,
                        description="Found in the lake; made by a run that was killed, or by another instance.",
                        partition=shard,
                        tags={run_tags.DATA_VERSION: version},
                    )
                )
                found = self._instance.event_log_storage.get_latest_storage_id_by_partition(
                    dg.AssetKey(spec.name), dg.DagsterEventType.ASSET_MATERIALIZATION, {shard}
                )
                self._ids[spec.name].update(found)

    def _pending(self, shard: str) -> dict[str, Reason]:
        """Assets of the shard that are to be made now, and why; the shards before it are done."""
        pending, last = dict(self._found(shard)), AGENT_PAIR_PROBABILITIES.name
        if last not in pending and not follows(self._lake, shard):
            pending[last] = Reason.REFOLDED
        return pending

    def _found(self, shard: str) -> dict[str, Reason]:
        """Assets of the shard that are to be made, whatever becomes of the shards before it, and why (``core.planning.restart``)."""
        if shard not in self._lacking:
            self._adopt(shard)
            self._lacking[shard] = self._look_at(shard)
        return self._lacking[shard]

    def _look_at(self, shard: str) -> dict[str, Reason]:
        made = {
            name: AssetState(self._had_bank if there is None else there, self._ids[name].get(shard))
            for name in LOOP
            for there in [has_output(self._lake, name, shard)]
        }
        found: dict[str, set[Reason]] = {name: set() for name in LOOP}
        for name in self._again.get(shard, ()):
            found[name].add(Reason.ASKED)
        for name in self._retries.of(shard):
            found[name].add(Reason.RETRIED)
        for misfit in misfits(self._lake, shard):
            # what is paid or slow is not made again because a table beside it is damaged: the checks stop there, and name it
            if misfit.says_so or misfit.table in FREE:
                found[misfit.table].add(Reason.MISFIT)
        if plan_is_outdated(self._lake, shard, self._settings.fingerprint):
            found[SAMPLING_PLAN.name].add(Reason.OUTDATED_PLAN)
        return assets_to_make(LOOP, PARENTS, PAID_FOR, ShardState(made, found))

    def _execute(
        self, job: str, shard: str | None = None, assets: Sequence[str] = (), tags: Mapping[str, str] | None = None
    ) -> None:
        self._stop_if_interrupted()
        result = self._defs.resolve_job_def(job).execute_in_process(
            instance=self._instance,
            partition_key=shard,
            asset_selection=[dg.AssetKey(name) for name in assets] or None,
            # this command does what is left itself: the daemon must not try the run again
            tags={**process_tags(), run_tags.MAX_RETRIES: "0", **(tags or {})},
            run_config=QUIET,
            raise_on_error=False,
        )
        self._stop_if_interrupted()
        for found in result.get_asset_check_evaluations():
            if not found.passed and found.severity == dg.AssetCheckSeverity.WARN:
                where = f"shard {shard}: " if shard else ""
                self._warned.setdefault((found.asset_key.path[-1], found.check_name), []).append(
                    f"{where}{found.description}"
                )
        if not result.success:
            raise RunFailed(why_failed(result))

    def _stop_if_interrupted(self) -> None:
        if self._interrupted():
            raise KeyboardInterrupt
