"""What the assets are given. Resources only construct; the work is in the adapters. Each can be replaced in ``build_defs``."""

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import TYPE_CHECKING

import dagster as dg
from pydantic import Field, PrivateAttr

from star_pipeline.adapters.asking_ahead import asking_for_candidates
from star_pipeline.adapters.lake import Lake
from star_pipeline.adapters.locks import lake_lock
from star_pipeline.adapters.progress import SilentProgress
from star_pipeline.config import StarConfig, load_config
from star_pipeline.config.scoring import AnyModel
from star_pipeline.core.aliases import JsonMapping
from star_pipeline.core.calibration.scoring import ModelKind
from star_pipeline.core.errors import StarError
from star_pipeline.core.locking import LakeLock, command_at_work
from star_pipeline.core.ports import ChatModel, Embedder, MemoryBank, Progress, Scorer
from star_pipeline.core.tables import CANDIDATES, IFD_SCORES, SAMPLING_PLAN
from star_pipeline.instance import database_of
from star_pipeline.instance.processes import LAKE_TAG, process_tags
from star_pipeline.instance.queue import runs_at_once, wait_for_turn
from star_pipeline.instance.scopes import scope_of
from star_pipeline.instance.tags import PARTITION

if TYPE_CHECKING:
    from star_pipeline.adapters.llm.chat import AgentChat

_HANDED_ON_WITHIN_S, _SHARDS_WITHIN_S = 60.0, 3600.0
"""A run is over for Dagster a moment before it lets go of the lake, and snapshots may be folded anew in between; a run that works on
no shard lets those that have begun go first."""


class LakeResource(dg.ConfigurableResource):  # type: ignore[type-arg]  # the value that assets get is itself
    """Where everything is kept."""

    root: str = Field(description="the lake: a folder, or s3://bucket/prefix")

    def open(self) -> Lake:
        return Lake.at(self.root)


class SettingsResource(dg.ConfigurableResource):  # type: ignore[type-arg]  # the value that assets get is itself
    """The configuration of the run."""

    config: str = Field(
        description="a profile (offline, laptop, local, paper), the path of a YAML file, or settings as JSON"
    )

    @classmethod
    def of(cls, config: str | JsonMapping) -> "SettingsResource":
        return cls(config=config if isinstance(config, str) else json.dumps(config))

    def load(self) -> StarConfig:
        return load_config(json.loads(self.config) if self.config.startswith("{") else self.config)


class LakeLockResource(dg.ConfigurableResource):  # type: ignore[type-arg]  # the value that assets get is itself
    """Holds the lake for as long as a run has steps of the loop; a second holder is refused, naming the first."""

    lake: LakeResource
    settings: SettingsResource
    _refused: StarError | None = PrivateAttr(default=None)

    def home(self) -> Lake:
        return self.lake.open()

    def configured(self) -> StarConfig:
        return self.settings.load()

    def lock(self) -> LakeLock:
        return lake_lock(self.configured(), self.home())

    def wait_for_turn(self, instance: dg.DagsterInstance, run_id: str) -> float:
        """Wait until the run may have the lake; returns how long, in s, it may take its predecessor to let go of it."""
        if not command_at_work(self.lock()):  # a command does all shards itself, in order
            wait_for_turn(instance, run_id)
        return 0.0

    @contextmanager
    def yield_for_execution(self, context: dg.InitResourceContext) -> Iterator["LakeLockResource"]:
        instance, run_id, patience_s = context.instance, context.run_id, 0.0
        recorded = instance is not None and run_id is not None and instance.has_run(run_id)
        with ExitStack() as stack:
            try:
                if instance and run_id and recorded:
                    patience_s = self.wait_for_turn(instance, run_id)
                stack.enter_context(self.lock().hold(f"run {(run_id or 'of Dagster')[:8]}", patience_s))
            except StarError as error:
                self._refused = error
            else:
                if instance and run_id and recorded:
                    instance.add_run_tags(run_id, process_tags(self.home(), database_of(self.configured())))
                    stack.callback(instance.add_run_tags, run_id, {LAKE_TAG: ""})
            yield self

    def require(self) -> None:
        """Raises LakeError where another process holds the lake, and what else keeps this one from it."""
        if self._refused:
            raise self._refused


class ProgressResource(dg.ConfigurableResource):  # type: ignore[type-arg]  # the value that assets get is itself
    """Who is told how far a stage has come; nobody, unless ``run`` puts its terminal here."""

    def progress(self) -> Progress:
        return SilentProgress()


def progress_to(told: Progress) -> ProgressResource:
    """For a command: ``told``, such as its terminal, hears."""

    class Told(ProgressResource):
        def progress(self) -> Progress:
            return told

    return Told()


def settings_as_read(settings: StarConfig, config: str) -> SettingsResource:
    """For a command: an edit of the file while it works must not split what it makes between two configurations."""

    class Fixed(SettingsResource):
        def load(self) -> StarConfig:
            return settings

    return Fixed(config=config)


def open_chat(config: StarConfig, lake: Lake, tell: Callable[[str], None]) -> "AgentChat":
    """The configuration's agents with the lake's journal and budget, for the event loop that this is called in."""
    from star_pipeline.adapters.journal.opening import open_journal
    from star_pipeline.adapters.llm.chat import AgentChat
    from star_pipeline.adapters.llm.servers import OF_THIS_PROCESS

    journal = open_journal(config, lake)
    try:
        return AgentChat(config.agents_in_use, journal, config.budget.usd, servers=OF_THIS_PROCESS, tell=tell)
    except BaseException:
        journal.close()
        raise


class ChatResource(dg.ConfigurableResource):  # type: ignore[type-arg]  # the value that assets get is itself
    """The configuration's agents, through litellm, with the lake's journal and budget."""

    settings: SettingsResource
    lake: LakeResource

    def tell(self, text: str) -> None:
        """What a user should know of an agent, in a line of the run's log."""
        dg.get_dagster_logger().warning(text)

    def chat(self) -> ChatModel:
        """To be made, and closed, inside the event loop that uses it."""
        return open_chat(self.settings.load(), self.lake.open(), self.tell)


class ToldChatResource(ChatResource):
    """The same, for a run that somebody watches."""

    progress: ProgressResource

    def tell(self, text: str) -> None:
        self.progress.progress().note(text)
        super().tell(text)


class ScorerResource(dg.ConfigurableResource):  # type: ignore[type-arg]  # the value that assets get is itself
    """The two models that Eq. 4 needs."""

    settings: SettingsResource
    lake: LakeResource
    progress: ProgressResource

    def small(self) -> Scorer:
        return self._scorer(self.settings.load().scoring.small)

    def large(self) -> Scorer:
        return self._scorer(self.settings.load().scoring.large)

    def kinds(self) -> dict[str, ModelKind]:
        """Of what kind the two are, by role."""
        from star_pipeline.adapters.scoring.kinds import kinds_of

        return kinds_of(self.settings.load().scoring, self.lake.open(), self.progress.progress())

    def settle_weights(self, present: dict[str, str], scoring_again: bool) -> None:
        """Raises ModelError where scores of other weights are in the lake, unless those are being made again."""
        from star_pipeline.adapters.scoring_weights import settle_weights

        lake = self.lake.open()
        again = lake.shards_of(IFD_SCORES) if scoring_again else ()
        settle_weights(lake, present, again, self.progress.progress())

    def _scorer(self, model: AnyModel) -> Scorer:
        from star_pipeline.adapters.scoring import open_scorer

        return open_scorer(model, self.settings.load().scoring, self.lake.open(), self.progress.progress())


class EmbedderResource(dg.ConfigurableResource):  # type: ignore[type-arg]  # the value that assets get is itself
    """The sentence embedding of instructions."""

    settings: SettingsResource
    lake: LakeResource
    progress: ProgressResource

    def embedder(self) -> Embedder:
        from star_pipeline.adapters.embedder import open_embedder

        return open_embedder(self.settings.load(), self.lake.open(), self.progress.progress())


class MemoryResource(dg.ConfigurableResource):  # type: ignore[type-arg]  # the value that assets get is itself
    """The memory bank in LanceDB."""

    lake: LakeResource
    settings: SettingsResource

    def bank(self) -> MemoryBank:
        from star_pipeline.adapters.memory import bank_of

        return bank_of(self.lake.open(), self.settings.load().memory.embedding)


class SharedLakeResource(LakeLockResource):
    """The same in an instance that has several runs of the loop under way at once: the lake goes from one to the next, and a run that
    waits for it asks for its shard's candidates, where the lag of the configuration lets its plan be drawn."""

    chat: ChatResource
    embedder: EmbedderResource

    def wait_for_turn(self, instance: dg.DagsterInstance, run_id: str) -> float:
        run = instance.get_run_by_id(run_id)
        at_once = runs_at_once(instance, scope_of(run)) if run else None
        lake = self.home()
        if run is None or at_once in (None, 1) or command_at_work(self.lock()):
            return super().wait_for_turn(instance, run_id)
        from star_pipeline.adapters.llm.servers import OF_THIS_PROCESS

        OF_THIS_PROCESS.share = at_once or 1
        shard = run.tags.get(PARTITION, "")
        to_make = {key.path[-1] for key in run.asset_selection or ()} or {SAMPLING_PLAN.name, CANDIDATES.name}

        def embedder() -> Embedder:
            from star_pipeline.adapters.embedder import of_this_process

            return of_this_process(self.embedder.embedder())

        def asking() -> AbstractContextManager[None]:
            # what is made again is not asked ahead: the old plan says nothing of the new one
            again = any(spec.name in to_make and lake.has_table(spec, shard) for spec in (SAMPLING_PLAN, CANDIDATES))
            try:
                config = self.configured()
            except StarError:  # the step that needs it tells
                return nullcontext()
            if not shard or again or (at_once or 1) > config.shards_at_once:
                return nullcontext()
            log = logging.getLogger(__name__).warning
            return asking_for_candidates(config, lake, shard, to_make, self.chat.chat, embedder, log)

        wait_for_turn(instance, run_id, asking)
        return _HANDED_ON_WITHIN_S if shard else _SHARDS_WITHIN_S
