"""The sensor on the seed files: a look at them when they have changed, then their new shards, in order."""

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field

import dagster as dg
from dagster import DagsterRunStatus, RunsFilter

from star_pipeline.adapters.lake import Lake
from star_pipeline.adapters.locks import lake_lock
from star_pipeline.adapters.seed_state import content_digest, list_seed_files
from star_pipeline.adapters.shard_state import has_output, plan_is_outdated
from star_pipeline.core.errors import StarError
from star_pipeline.core.locking import command_at_work
from star_pipeline.core.planning.restart import AssetState, Reason, ShardState, assets_to_make
from star_pipeline.core.planning.run_requests import Attempt, catalogue_wanted, shards_wanted
from star_pipeline.core.tables import AGENT_PAIR_PROBABILITIES, SAMPLING_PLAN, SEED_CATALOG
from star_pipeline.defs.assets.seed_catalog import SEED_FILES
from star_pipeline.defs.jobs import LOOP, PAID_FOR, PARENTS, PROCESS_SHARD, TAKE_IN_SEEDS, Job
from star_pipeline.defs.resources import SettingsResource
from star_pipeline.defs.scope import Scope
from star_pipeline.instance import tags
from star_pipeline.instance.attempts import last_attempt
from star_pipeline.instance.private import BulkActionsFilter, BulkActionStatus

INTERVAL_S = 10
FILES_TAG = "star/seed_files"
_WINDOW = 4
"""Shards in the queue at once: enough that none waits for the next tick, few enough to stop by hand."""
_HASHING_S = 20.0
"""Time for reading changed files in one tick; what is left is read in the next."""
_BACKFILLING = [BulkActionStatus.REQUESTED, BulkActionStatus.CANCELING, BulkActionStatus.FAILING]
_UNFINISHED = [
    DagsterRunStatus.QUEUED,
    DagsterRunStatus.NOT_STARTED,
    DagsterRunStatus.STARTING,
    DagsterRunStatus.STARTED,
    DagsterRunStatus.CANCELING,
]


@dataclass
class Cursor:
    """What the sensor remembers: of constant size, whatever the number of files (their hashes are in the lake).

    ``listing`` is the signature of the files at the last tick; ``content`` names the files whose signature was ``read``.
    ``revived`` are shards of catalogue ``catalogue`` that were passed over without seeds, and whose seeds are back.
    """

    listing: str = ""
    read: str = ""
    content: str = ""
    catalogue: int = 0
    revived: list[str] = field(default_factory=list)

    @classmethod
    def parse(cls, text: str | None) -> "Cursor":
        """Inverse of ``text``; a fresh one where there is none, or another version wrote it."""
        try:
            return cls(**json.loads(text or "{}"))
        except (ValueError, TypeError):
            return cls()

    @property
    def text(self) -> str:
        return json.dumps(asdict(self))


def seed_files_sensor(scope: Scope, jobs: Sequence[Job]) -> dg.SensorDefinition:
    needed = [scope.name(name) for name in ("lake", "settings")]
    named = frozenset(str(job.name) for job in jobs)

    @dg.sensor(
        name=scope.name("seed_files"),
        jobs=[job for job in jobs if job.name in (scope.name(TAKE_IN_SEEDS), scope.name(PROCESS_SHARD))],
        required_resource_keys=set(needed),
        minimum_interval_seconds=INTERVAL_S,
        default_status=dg.DefaultSensorStatus.STOPPED,
        description="Watches seeds/: files added, appended to, edited, renamed, removed or put back. Once they have rested, the catalogue "
        "looks at them, and the shards that are new (or not done) are run in key order; what is done stays as it is. A file half written "
        "or with a temporary name is waited for; a shard that fails holds the later ones back until it is run again. It stands aside "
        "while a backfill or `star-pipeline run` is at work. A changed configuration makes it do nothing: it holds for the next shards.",
    )
    def seed_files(context: dg.SensorEvaluationContext, **_: object) -> dg.SensorResult:
        # where it is called directly, Dagster hands the resources over by name as well
        lake, settings = (getattr(context.resources, name) for name in needed)
        cursor = Cursor.parse(context.cursor)
        try:
            requests, said = _Tick(context.instance, scope, named, lake.open(), settings, cursor).requests()
        except StarError as error:
            requests, said = [], str(error)
        return dg.SensorResult(requests, skip_reason=None if requests else dg.SkipReason(said), cursor=cursor.text)

    return seed_files


class _Tick:
    """One look at the files, the instance and the lake."""

    def __init__(
        self,
        instance: dg.DagsterInstance,
        scope: Scope,
        jobs: frozenset[str],
        lake: Lake,
        settings: SettingsResource,
        cursor: Cursor,
    ) -> None:
        self._instance, self._scope, self._jobs, self._lake = instance, scope, jobs, lake
        self._settings, self._cursor = settings, cursor

    def requests(self) -> tuple[list[dg.RunRequest], str]:
        """The runs to request, and in a line what is waited for."""
        unsettled = self._unsettled()
        busy = command_at_work(lake_lock(self._settings.load(), self._lake))
        if busy:
            return [], f"{busy} is at work on the lake and does all that is new itself"
        if self._backfilled():
            return [], "a backfill is under way; what is left is run when it has ended"
        catalogue, waiting = ([], unsettled) if unsettled else self._catalogue()
        if catalogue:
            return catalogue, ""  # first what is new: its shards come next
        shards, reason = self._shards()
        return shards, f"{waiting}; {reason}"

    def _backfilled(self) -> bool:
        """Whether a backfill of this lake is under way: others may share the instance."""
        return any(
            backfill.job_name in self._jobs
            or any(Scope.of(key) == self._scope for key in backfill.asset_selection or ())
            for backfill in self._instance.get_backfills(BulkActionsFilter(statuses=_BACKFILLING))
        )

    def _unsettled(self) -> str:
        """Why the files cannot be read yet; empty once they have rested since the last tick and are read."""
        cursor, listing = self._cursor, list_seed_files(self._lake)
        signature, before = listing.signature, cursor.listing
        cursor.listing = signature
        if signature == cursor.read:
            return ""
        fresh = listing.written_within(self._settings.load().sensor.settle_s, time.time())
        if signature != before or fresh:
            return (
                f"waiting until {fresh or 'the seed files'} has rested"
                if fresh
                else "the seed files have changed; waiting a tick"
            )
        content = content_digest(self._lake, listing, _HASHING_S)
        if content is None:
            return "reading the changed seed files; going on in the next tick"
        cursor.read, cursor.content = signature, content
        return ""

    def _catalogue(self) -> tuple[list[dg.RunRequest], str]:
        files, known = self._cursor.content, self._lake.has_table(SEED_CATALOG)
        if not known and not self._lake_has_files():
            return [], "no seed files yet; put one under seeds/"
        made, taken_in = self._catalogue_made()
        asked_for = RunsFilter(job_name=self._scope.name(TAKE_IN_SEEDS), tags={FILES_TAG: f"{files}.{made}"})
        last = last_attempt(self._instance, asked_for, self._scope.tag)
        tries = self._instance.get_runs_count(asked_for)
        wish = catalogue_wanted(files, taken_in if known else None, last, tries)
        if not wish.keys:
            return [], wish.reason
        # the catalogue's own number tells A, B and A again apart; the tries tell a killed run from its successor
        state = f"{files}.{made}"
        return [
            dg.RunRequest(run_key=f"{state}.{tries}", job_name=self._scope.name(TAKE_IN_SEEDS), tags={FILES_TAG: state})
        ], wish.reason

    def _lake_has_files(self) -> bool:
        return bool(list_seed_files(self._lake).files)

    def _catalogue_made(self) -> tuple[int, str | None]:
        """Number of the catalogue's last materialisation (0: none), and the name of the seed files that it was made from."""
        records = self._instance.fetch_materializations(self._scope.key("seed_catalog"), limit=1).records
        if not records or not records[0].asset_materialization:
            return 0, None
        files = records[0].asset_materialization.metadata.get(SEED_FILES)
        return records[0].storage_id, str(files.value) if files else None

    def _shards(self) -> tuple[list[dg.RunRequest], str]:
        pending = self._pending()
        last = {shard: attempt for shard in pending[:_WINDOW] if (attempt := self._last(shard))}
        wish = shards_wanted(pending, last, _WINDOW)
        return [self._request(shard, last.get(shard)) for shard in wish.keys], wish.reason

    def _pending(self) -> list[str]:
        """Keys of the shards that are not done, in order."""
        made, _ = self._catalogue_made()
        done = set(self._lake.shards_of(AGENT_PAIR_PROBABILITIES))
        if made != self._cursor.catalogue:
            self._cursor.catalogue, self._cursor.revived = made, list(self._passed_over(sorted(done)))
        self._cursor.revived = list(self._passed_over(self._cursor.revived))
        known = self._instance.get_dynamic_partitions(str(self._scope.partitions.name))
        return sorted(key for key in known if key not in done or key in self._cursor.revived)

    def _passed_over(self, shards: Sequence[str]) -> Iterator[str]:
        """Those that were done with an empty plan since all their seeds had left, while some are back now."""
        for shard in shards:
            planned = self._lake.has_table(SAMPLING_PLAN, shard)
            empty = planned and not self._lake.read_arrow(SAMPLING_PLAN, shard).num_rows
            if empty and self._lake.has_live_seeds(shard):
                yield shard

    def _last(self, shard: str) -> Attempt | None:
        return last_attempt(self._instance, RunsFilter(tags={tags.PARTITION: shard}), self._scope.tag)

    def _request(self, shard: str, last: Attempt | None) -> dg.RunRequest:
        there = {name: has_output(self._lake, name, shard) for name in LOOP}
        # the snapshot comes last: where it is there, the memory bank before it was written too
        done = bool(there[AGENT_PAIR_PROBABILITIES.name])
        made = {name: AssetState(done if found is None else found) for name, found in there.items()}
        outdated = plan_is_outdated(self._lake, shard, self._settings.load().fingerprint)
        found = {SAMPLING_PLAN.name: {Reason.OUTDATED_PLAN} if outdated else set()}
        pending = assets_to_make(LOOP, PARENTS, PAID_FOR, ShardState(made, found))
        return dg.RunRequest(
            run_key=f"{shard}.{last.run_id if last else 'first'}",
            job_name=self._scope.name(PROCESS_SHARD),
            partition_key=shard,
            asset_selection=[self._scope.key(name) for name in pending],
        )
