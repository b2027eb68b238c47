"""What the stages of a shard that are paid or slow compute, by whomever: the shard's assets, or who works ahead of them.

The same functions, so that what was computed ahead is what the asset needs, to the byte.
"""

from collections.abc import Callable, Sequence

from star_pipeline.adapters.lake import Lake
from star_pipeline.adapters.snapshots import prior_snapshot, remembered_before
from star_pipeline.config import StarConfig
from star_pipeline.core.aliases import Vectors
from star_pipeline.core.equations.evolution import Snapshot
from star_pipeline.core.equations.generation import Generator
from star_pipeline.core.equations.ifd import score_candidates
from star_pipeline.core.equations.judging import Judge
from star_pipeline.core.equations.sampling import plan_shard
from star_pipeline.core.ports import ChatModel, Embedder, MemoryBank, Progress, Scorer
from star_pipeline.core.records import Candidate, IfdScore, JudgeVerdict, Neighbour, PlanRow, Seed

_SEEDS_AT_ONCE = 8
"""Some forty responses: enough to fill a GPU's batch, few enough that one slow reply holds up little."""


def planned_seeds(lake: Lake, shard: str, seeds: Sequence[Seed]) -> Sequence[Seed]:
    """The seeds that a plan is made for: where all of them have left the seed files nothing is paid, and the shard stays as a link
    of the chain."""
    return seeds if lake.has_live_seeds(shard) else []


def draw_plan(
    config: StarConfig, lake: Lake, shard: str, seeds: Sequence[Seed], embedder: Embedder, bank: MemoryBank
) -> tuple[Snapshot, list[PlanRow]]:
    """The plan of the shard, and the snapshot it is drawn from (Eq. 3). Raises OrderError where that is not there yet.

    With the lag L of the configuration, plan k sees the snapshot after shard k - 1 - L, and of the memory what shards up to there put
    into it: what later ones have added meanwhile is not there for it, whenever it is drawn. While that is nothing, nothing is embedded.
    """
    lag = config.evolution.lag
    snapshot = prior_snapshot(lake, shard, config.sampled_ids, lag)
    neighbours: list[list[Neighbour]] = [[] for _ in seeds]
    if config.sampling.from_memory:
        before = remembered_before(lake, shard, lag)
        if bank.remembers(before):
            neighbours = bank.nearest(seed_vectors(seeds, embedder), config.memory.neighbours, before=before)
    return snapshot, plan_shard(seeds, snapshot, neighbours, config.sampling_rules)


def seed_vectors(seeds: Sequence[Seed], embedder: Embedder) -> Vectors:
    """The embeddings by which a plan looks up like instructions."""
    return embedder.embed([seed.instruction for seed in seeds])


def generator(config: StarConfig, chat: ChatModel) -> Generator:
    """Makes candidates as configured (Eq. 2)."""
    return Generator(chat, config.prompt_library, config.agent_prompts, config.sampling.response_mode)


def score(
    config: StarConfig,
    candidates: Sequence[Candidate],
    seeds: Sequence[Seed],
    small: Scorer,
    large: Scorer,
    scored: Callable[[IfdScore], None] | None = None,
) -> list[IfdScore]:
    """Eq. 4 for a whole shard, over all of whose candidates gaps are calibrated.

    ``scored`` may be told rows, without their calibrated gaps, before all are there.
    """
    knobs, models = config.scoring, (lambda: small, lambda: large)
    rules = knobs.calibration, knobs.least_tokens
    return score_candidates(candidates, seeds, *models, *rules, scored, seeds_at_once(config))


def seeds_at_once(config: StarConfig) -> int | None:
    """Over how many seeds' candidates batches are formed: with a lag over a few, so that scoring begins before a shard's last reply;
    None: over the whole shard's, as in the paper's order, which has nothing to begin with before."""
    return _SEEDS_AT_ONCE if config.evolution.lag else None


def judging(config: StarConfig, chat: ChatModel) -> Judge:
    """Makes verdicts as configured (Eq. 6)."""
    return Judge(chat, config.prompt_library, config.judge_rules)


async def judge(
    config: StarConfig,
    chat: ChatModel,
    candidates: Sequence[Candidate],
    seeds: Sequence[Seed],
    scores: Sequence[IfdScore],
    progress: Progress,
) -> list[JudgeVerdict]:
    """Eq. 6 for a whole shard."""
    return await judging(config, chat).verdicts(candidates, seeds, scores, progress)
