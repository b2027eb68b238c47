"""How ``run`` keeps LLM servers and scoring models busy at once: it works ahead of Dagster's steps, and changes nothing that they make.

A reply is in the journal before anything uses it, so that asking ahead and materialising later is safe. A thread of its own, with an
event loop (``SharedChat``), computes for the shard that Dagster works on, and for those after it whose plan is determined
(``evolution.lag``), plan → candidates → scores → verdicts, with the functions that the assets themselves call (``adapters.stages``), and
keeps nothing of it but the replies in the journal, and in memory the losses and embeddings (``SharedModels``). Each asset is still
materialised by its own step, in order: it asks and computes all anew, and finds it answered and computed, or on its way. So a kill
costs what it always did; tables, checks, lock, budget, resume and UI are those of a run that does one thing after the other.

* Of the shard after those, whose plan is not determined yet, it asks what every plan would ask (``core.planning.certain``).
* What need not wait for the whole of a shard does not (``commands.early``): models on servers score what has arrived, those in this
  process the groups of seeds that have, and a candidate is judged as soon as it is scored, but for a calibrated gap. Without a
  lag models in this process wait for the shard's last candidate: their batches are formed over all, others would give other bits;
  whom the judge will be asked about is foreseen by provisional scores meanwhile.
* It never asks for what could still change: shard k - 1 - lag is done when plan k is drawn. So a run that is stopped has paid at most
  for lag + 1 shards that it has not begun.
* With a budget, which is to end with whole shards, and with an agent that asks in batches nothing is done ahead.
* An error ahead (an agent that is down, the budget) ends the work ahead, until the next shard begins. The step that needs what failed
  asks for itself, and tells.
"""

import asyncio
import functools
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import dagster as dg

from star_pipeline.adapters import stages
from star_pipeline.adapters.embedder import open_embedder
from star_pipeline.adapters.lake import Lake
from star_pipeline.adapters.llm.shared import AheadChat, SharedChat, StepChat
from star_pipeline.adapters.memory import bank_of
from star_pipeline.adapters.progress import SilentProgress
from star_pipeline.adapters.scoring import model_cache, open_scorer
from star_pipeline.adapters.scoring.numerics import recorded_in
from star_pipeline.adapters.shared_models import SharedModels
from star_pipeline.commands.early import EarlyJudging, EarlyScoring, candidates_by_seed
from star_pipeline.config import StarConfig
from star_pipeline.config.scoring import ServedModel
from star_pipeline.core.errors import StarError
from star_pipeline.core.planning.certain import certain_rewriters, certain_rows, certainly_judged
from star_pipeline.core.ports import ChatModel, Embedder, MemoryBank, Progress, Scorer, ScoringSample
from star_pipeline.core.records import Candidate, IfdScore, PlanRow, Seed
from star_pipeline.core.tables import CANDIDATES, IFD_SCORES, JUDGE_VERDICTS, SAMPLING_PLAN, SHARD_MANIFEST
from star_pipeline.defs.resources import (
    EmbedderResource,
    LakeResource,
    ProgressResource,
    ScorerResource,
    SettingsResource,
    ToldChatResource,
    open_chat,
)

COSTLY = frozenset({CANDIDATES.name, IFD_SCORES.name, JUDGE_VERDICTS.name})
"""What is paid for, or slow."""
_FORESEEN_AT_ONCE = 8
"""Seeds: few, so that the judge hears of those that came first while others come."""


@dataclass(frozen=True)
class Upcoming:
    """A shard, its place among all, and the assets of it that this run will make; the others are as their tables have them."""

    place: int
    shard: str
    assets_to_make: frozenset[str]


class Ahead:
    """The work ahead of one run. ``replaced`` are resources by name that take the usual ones' place."""

    def __init__(self, config: StarConfig, lake: Lake, progress: Progress, replaced: Mapping[str, Any]) -> None:
        self._config, self._lake, self._progress, self._replaced = config, lake, progress, replaced
        self._lag = config.evolution.lag
        self._models = SharedModels(progress, self._lag + 3)
        served = "scorer" not in replaced and all(isinstance(one, ServedModel) for one in config.scoring.models)
        self._served, self._to_load = served, not served and "scorer" not in replaced
        # one shard is scored at a time; servers are asked about what has arrived and about what is left of each shard in work
        self._scoring = ThreadPoolExecutor(2 * (self._lag + 1) if served else 1, thread_name_prefix="scoring ahead")
        self._opened: dict[str, list[Scorer]] = {}
        self._provisional, self._arrived = list[Scorer](), threading.Event()
        self._tasks: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._chat: SharedChat | None = None
        self._said: list[str] = []
        self._guard = threading.Lock()

    def resources(self, settings: SettingsResource, told: ProgressResource) -> dict[str, object]:
        """Resources for the steps, by name: they ask and compute through what the work ahead shares with them."""
        ahead, lake = self, LakeResource(root=str(self._lake.root))

        class Chat(ToldChatResource):
            def chat(self) -> ChatModel:
                return ahead._step_chat(dg.get_dagster_logger().warning) if ahead._chat else super().chat()

        class Scoring(ScorerResource):
            def small(self) -> Scorer:
                return ahead._scorer("small", ahead._progress)

            def large(self) -> Scorer:
                return ahead._scorer("large", ahead._progress)

        class Embedding(EmbedderResource):
            def embedder(self) -> Embedder:
                return ahead._embedder()

        return {
            "chat": Chat(settings=settings, lake=lake, progress=told),
            "scorer": Scoring(settings=settings, lake=lake, progress=told),
            "embedder": Embedding(settings=settings, lake=lake, progress=told),
        }

    def begin(self, upcoming: Sequence[Upcoming]) -> None:
        """The first of these shards begins, and all before it are done; the others follow it, as far as one may look ahead."""
        if not any(COSTLY & work.assets_to_make for work in upcoming):
            return
        if self._chat is None:
            try:
                self._chat = self._open()
            except StarError:  # the step that needs an agent meets it too
                return
        self._chat.start(self._begin(list(upcoming), self._chat)).result()

    def close(self) -> None:
        """End the work ahead: what is in flight may arrive, nothing more is asked or computed."""
        self._models.end()
        self._scoring.shutdown(wait=False, cancel_futures=True)
        if self._chat:
            self._chat.start(self._halt(self._chat)).result()
            self._chat.close()
        self._scoring.shutdown()

    def _open(self) -> SharedChat:
        """Nothing else is at work yet: two threads that import the same packages at once may find them half made."""
        from star_pipeline.adapters.journal.request_keys import request_key

        agents = self._config.agents
        return SharedChat(
            lambda: open_chat(self._config, self._lake, self._tell),
            lambda request: request_key(request, agents[request.agent]),
            lambda agent: agents[agent].max_concurrency,
        )

    def _tell(self, text: str) -> None:
        """At once to the user, and to the log of the run whose step asks next."""
        self._progress.note(text)
        with self._guard:
            self._said.append(text)

    def _step_chat(self, log: Callable[[str], None]) -> ChatModel:
        from star_pipeline.adapters.llm.servers import OF_THIS_PROCESS

        for name, agent in self._config.agents_in_use.items():
            OF_THIS_PROCESS.of(name, agent)  # a new stage: an agent that was given up gets another chance

        def closed() -> None:
            with self._guard:
                said, self._said = self._said, []
            for text in said:
                log(text)

        assert self._chat
        return StepChat(self._chat, closed)

    def _scorer(
        self, role: str, listener: Progress | None, part: bool = False, ended: threading.Event | None = None
    ) -> Scorer:
        if given := self._replaced.get("scorer"):
            scorer: Scorer = getattr(given, role)()
            return self._models.scorer(role, lambda progress: scorer, listener, ended=ended)
        scoring = self._config.scoring
        model = scoring.small if role == "small" else scoring.large
        opened = functools.partial(open_scorer, model, scoring, self._lake)
        return self._models.scorer(role, opened, listener, self._served, part, ended)

    def _embedder(self) -> Embedder:
        if given := self._replaced.get("embedder"):
            return self._models.embedder(given.embedder())
        return self._models.embedder(open_embedder(self._config, self._lake, self._progress))

    def _bank(self) -> MemoryBank:
        return bank_of(self._lake, self._config.memory.embedding)

    # what follows runs in the chat's loop

    async def _begin(self, upcoming: Sequence[Upcoming], chat: SharedChat) -> None:
        first = upcoming[0].place
        if self._to_load and {CANDIDATES.name, IFD_SCORES.name} <= upcoming[0].assets_to_make:
            self._to_load = False
            self._scoring.submit(self._load)
        for work in upcoming:
            determined = work.place <= first + self._lag
            kind, make = ("whole", self._whole) if determined else ("certain", self._certain)
            task = self._tasks.get((kind, work.shard))
            if not COSTLY & work.assets_to_make or (task and not _failed(task)):
                continue
            task = self._tasks[kind, work.shard] = asyncio.create_task(make(work, AheadChat(chat, work.place)))
            task.add_done_callback(lambda done: self._ended(done, chat))
        self._tasks = {key: task for key, task in self._tasks.items() if key[1] >= upcoming[0].shard}

    def _ended(self, task: "asyncio.Task[None]", chat: SharedChat) -> None:
        if task.cancelled() or not (error := task.exception()):
            return
        if not isinstance(error, StarError):
            self._progress.note(
                f"working ahead has stopped ({type(error).__name__}: {error}); the steps do it themselves"
            )
        self._cancel(chat)

    async def _halt(self, chat: SharedChat) -> None:
        tasks = self._cancel(chat)
        await asyncio.gather(*tasks, return_exceptions=True)

    def _cancel(self, chat: SharedChat) -> list["asyncio.Task[None]"]:
        tasks = [task for task in self._tasks.values() if not task.done()]
        for task in tasks:
            task.cancel()
        chat.halt()
        return tasks

    async def _certain(self, work: Upcoming, chat: AheadChat) -> None:
        """What every plan of the shard would ask; all of it where its plan is drawn and paid."""
        if CANDIDATES.name not in work.assets_to_make:
            return
        seeds = await asyncio.to_thread(self._seeds, work)
        if SAMPLING_PLAN.name not in work.assets_to_make:
            plan = await asyncio.to_thread(self._lake.read_table, SAMPLING_PLAN, work.shard)
            await stages.generator(self._config, chat).candidates(plan, seeds, SilentProgress())
            return
        await asyncio.gather(self._of_every_plan(seeds, chat), asyncio.to_thread(self._embed, seeds))

    async def _of_every_plan(self, seeds: Sequence[Seed], chat: AheadChat) -> None:
        maker, rules = stages.generator(self._config, chat), self._config.sampling_rules
        asked = maker.candidates(certain_rows(seeds, rules), seeds, SilentProgress())
        await asyncio.gather(asked, maker.rewrite(certain_rewriters(rules), seeds))

    async def _whole(self, work: Upcoming, chat: AheadChat) -> None:
        """All of the shard that is paid or slow."""
        seeds = await asyncio.to_thread(self._seeds, work)
        judging = EarlyJudging(stages.judging(self._config, chat), seeds)
        try:
            candidates = await self._candidates(work, chat, seeds, judging)
            if IFD_SCORES.name in work.assets_to_make:
                scores = await self._score(work, candidates, seeds, judging)
            elif JUDGE_VERDICTS.name in work.assets_to_make:
                scores = await asyncio.to_thread(self._lake.read_table, IFD_SCORES, work.shard)
            if JUDGE_VERDICTS.name in work.assets_to_make:
                for row in scores:
                    judging.scored(row)
                await judging.done()
        finally:
            await judging.cancel()

    async def _candidates(
        self, work: Upcoming, chat: AheadChat, seeds: Sequence[Seed], judging: EarlyJudging
    ) -> list[Candidate]:
        if CANDIDATES.name not in work.assets_to_make:
            found = await asyncio.to_thread(self._lake.read_table, CANDIDATES, work.shard)
            judging.made(found)
            return found

        # a plan may wait for the embedding model; each request of these is one of the plan's
        drawn = SAMPLING_PLAN.name not in work.assets_to_make
        meanwhile = asyncio.ensure_future(self._of_every_plan([] if drawn else seeds, chat))
        try:
            plan = await asyncio.to_thread(self._plan, work, seeds)
            return await self._planned(work, chat, plan, seeds, judging)
        finally:
            meanwhile.cancel()
            await asyncio.gather(meanwhile, return_exceptions=True)  # what failed there has failed here

    async def _planned(
        self, work: Upcoming, chat: AheadChat, plan: Sequence[PlanRow], seeds: Sequence[Seed], judging: EarlyJudging
    ) -> list[Candidate]:
        """The candidates of a plan; what may be scored meanwhile is."""

        async def score(some: Sequence[Candidate]) -> None:
            await self._score(work, some, seeds, judging, part=True)
            if not self._served and not self._both_loaded():
                early.end()  # the one would be let go for the other group by group

        def made(seed_id: str, some: Sequence[Candidate]) -> None:
            judging.made(some)
            early.made(seed_id, some)

        async def foresee(some: Sequence[Candidate]) -> None:
            await self._foresee(some, seeds, judging)
            if not self._both_loaded():
                early.end()

        self._arrived.clear()
        at_once = 1 if self._served else stages.seeds_at_once(self._config)
        planned = list(dict.fromkeys(row.seed_id for row in plan))
        if at_once:
            early = EarlyScoring(score, planned, at_once, sys.maxsize if self._served else 1)
        else:
            early = EarlyScoring(foresee, planned, 1, _FORESEEN_AT_ONCE, chat.has_room)
        useful = at_once or self._judges_each(work)
        if IFD_SCORES.name not in work.assets_to_make or not useful or self._config.scoring.keep_loaded == "one":
            early.end()
        if IFD_SCORES.name in work.assets_to_make and not self._served:
            self._scoring.submit(self._open_scorers, work.shard)
        try:
            return await candidates_by_seed(stages.generator(self._config, chat), plan, seeds, made)
        finally:
            early.end()
            self._arrived.set()

    async def _foresee(self, some: Sequence[Candidate], seeds: Sequence[Seed], judging: EarlyJudging) -> None:
        """Ask the judge about those of whom it is certain, by scores that nobody keeps; once the shard's last candidate has arrived
        they are computed no further."""
        tell = judging.scored_elsewhere()

        def score() -> None:
            self._provisional = self._provisional or [
                self._scorer(role, None, True, self._arrived) for role in ("small", "large")
            ]
            settled = recorded_in(self._lake.numerics)
            dtype = settled.dtype if settled else self._config.scoring.dtype

            def scored(row: IfdScore) -> None:
                if certainly_judged(row, dtype, self._config.judge.skip_nonpositive_gap):
                    tell(row)

            stages.score(self._config, some, seeds, self._provisional[0], self._provisional[1], scored)

        await asyncio.get_running_loop().run_in_executor(self._scoring, score)

    def _judges_each(self, work: Upcoming) -> bool:
        """Whether a candidate can be judged by its own score alone."""
        return JUDGE_VERDICTS.name in work.assets_to_make and self._config.scoring.calibration == "none"

    async def _score(
        self,
        work: Upcoming,
        candidates: Sequence[Candidate],
        seeds: Sequence[Seed],
        judging: EarlyJudging,
        part: bool = False,
    ) -> list[IfdScore]:
        """``part`` of the shard's candidates, or all of them; what is scored is judged."""
        tell = judging.scored_elsewhere() if self._judges_each(work) else None

        def score() -> list[IfdScore]:
            opened = None if part else self._opened.pop(work.shard, None)
            models = opened or [self._scorer(role, None, part) for role in ("small", "large")]
            return stages.score(self._config, candidates, seeds, models[0], models[1], tell)

        return await asyncio.get_running_loop().run_in_executor(self._scoring, score)

    def _both_loaded(self) -> bool:
        scoring = self._config.scoring
        if scoring.engine == "ray":
            return scoring.keep_loaded != "one"
        return "scorer" in self._replaced or len(model_cache.loaded()) >= len({str(scoring.small), str(scoring.large)})

    # what follows runs in threads beside it

    def _seeds(self, work: Upcoming) -> Sequence[Seed]:
        seeds = self._lake.read_table(SHARD_MANIFEST, work.shard)
        return (
            stages.planned_seeds(self._lake, work.shard, seeds) if SAMPLING_PLAN.name in work.assets_to_make else seeds
        )

    def _embed(self, seeds: Sequence[Seed]) -> None:
        """What the plan will look the seeds' neighbours up with."""
        if self._config.sampling.from_memory and seeds:
            stages.seed_vectors(seeds, self._embedder())
            self._bank().remembers(2)  # its library takes a second to load

    def _load(self) -> None:
        """The model that scores first, while candidates are asked for: it may take a minute. What hinders it the step will meet."""
        with suppress(StarError):
            self._scorer("small", None).losses([ScoringSample(None, (), "Hello.", "Hello.")], [6])

    def _open_scorers(self, shard: str) -> None:
        """While candidates are asked for: tokenizers and settings are there when the last one is. What hinders it scoring will meet."""
        with suppress(StarError):
            self._opened[shard] = [self._scorer(role, None) for role in ("small", "large")]

    def _plan(self, work: Upcoming, seeds: Sequence[Seed]) -> list[PlanRow]:
        if SAMPLING_PLAN.name not in work.assets_to_make:
            return self._lake.read_table(SAMPLING_PLAN, work.shard)
        return stages.draw_plan(self._config, self._lake, work.shard, seeds, self._embedder(), self._bank())[1]


def _failed(task: "asyncio.Task[None]") -> bool:
    return task.done() and (task.cancelled() or task.exception() is not None)
