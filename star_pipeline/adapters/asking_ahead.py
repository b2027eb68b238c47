"""A shard's candidates asked for while its run waits for its turn: another process works on the shard before it."""

import asyncio
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import aclosing, contextmanager, suppress
from dataclasses import replace

from star_pipeline.adapters import stages
from star_pipeline.adapters.lake import Lake
from star_pipeline.adapters.memory import bank_of
from star_pipeline.adapters.progress import SilentProgress
from star_pipeline.config import StarConfig
from star_pipeline.core.errors import StarError
from star_pipeline.core.journal import AHEAD
from star_pipeline.core.ports import ChatModel, ChatReply, ChatRequest, Embedder
from star_pipeline.core.records import Seed
from star_pipeline.core.tables import CANDIDATES, SAMPLING_PLAN, SHARD_MANIFEST


class _Asking:
    """Marks what it asks as asked ahead, so that it is booked on the shard whose step needs it first."""

    def __init__(self, chat: ChatModel) -> None:
        self._chat = chat

    async def complete(self, request: ChatRequest) -> ChatReply:
        return await self._chat.complete(replace(request, purpose=AHEAD + request.purpose))

    async def aclose(self) -> None:
        await self._chat.aclose()


@contextmanager
def asking_for_candidates(
    config: StarConfig,
    lake: Lake,
    shard: str,
    to_make: Collection[str],
    open_chat: Callable[[], ChatModel],
    embedder: Callable[[], Embedder],
    tell: Callable[[str], None],
) -> Iterator[None]:
    """Within, what candidates of the shard need is asked for, and its replies are kept in the journal. Leaving waits for all of them:
    so does the step that needs them. An error ends it, and is left to that step; an interrupt withdraws what is not on its way.

    Nothing is asked where the plan is not determined yet, nor with a budget, which is to end with whole shards, nor of agents in batch
    mode. Seeds that an earlier shard in work has too are left to it: two processes would pay for the same question.
    """
    live = config.budget.usd is None and all(agent.mode == "live" for agent in config.agents_in_use.values())
    if not live or CANDIDATES.name not in to_make:
        yield
        return
    loop = asyncio.new_event_loop()

    async def ask() -> None:
        seeds = lake.read_table(SHARD_MANIFEST, shard)
        if SAMPLING_PLAN.name in to_make:
            seeds = list(stages.planned_seeds(lake, shard, seeds))
            bank = bank_of(lake, config.memory.embedding)
            _, plan = stages.draw_plan(config, lake, shard, seeds, embedder(), bank)
        else:
            plan = lake.read_table(SAMPLING_PLAN, shard)
        own = _not_in_work(config, lake, shard, seeds)
        ids = {seed.seed_id for seed in own}
        async with aclosing(_Asking(open_chat())) as chat:
            maker = stages.generator(config, chat)
            await maker.candidates([row for row in plan if row.seed_id in ids], own, SilentProgress())

    def run() -> None:
        try:
            with suppress(StarError, asyncio.CancelledError):
                loop.run_until_complete(task)
        except Exception as error:
            tell(f"asking ahead has stopped ({type(error).__name__}: {error}); the steps ask themselves")

    task = loop.create_task(ask())
    thread = threading.Thread(target=run, name="asking ahead", daemon=True)
    thread.start()
    try:
        yield
        thread.join()
    except BaseException:
        loop.call_soon_threadsafe(task.cancel)
        thread.join()
        raise
    finally:
        loop.close()


def _not_in_work(config: StarConfig, lake: Lake, shard: str, seeds: Sequence[Seed]) -> list[Seed]:
    """The seeds whose instruction no shard asks about that may be in work before this one."""
    shards = lake.catalog_shards()
    place = shards.index(shard)
    before = shards[max(0, place - config.evolution.lag) : place]
    theirs = {seed.instruction for other in before for seed in lake.read_table(SHARD_MANIFEST, other)}
    return [seed for seed in seeds if seed.instruction not in theirs]
