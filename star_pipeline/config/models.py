"""Every knob, with its bounds, its meaning and a safe default (design contract: configuration)."""

import re
from typing import Annotated, Literal

from pydantic import Field, PrivateAttr, field_validator, model_validator

from star_pipeline.config.addresses import require_none
from star_pipeline.config.agents import AgentConfig as AgentConfig
from star_pipeline.config.dataset import DatasetConfig
from star_pipeline.config.evolution import EvolutionConfig
from star_pipeline.config.judge import JudgeConfig
from star_pipeline.config.scoring import IDLE, WHERE, ScoringConfig, as_before
from star_pipeline.config.section import Section
from star_pipeline.config.study import StudyConfig
from star_pipeline.core import identity
from star_pipeline.core.aliases import JsonObject
from star_pipeline.core.calibration.identity import calibrated_settings
from star_pipeline.core.checks import WarningLimits
from star_pipeline.core.equations.evolution import EvolutionRules
from star_pipeline.core.equations.generation import AgentPrompts, ResponseMode
from star_pipeline.core.equations.judging import JudgeRules
from star_pipeline.core.equations.prompts import SHIPPED, PromptLibrary
from star_pipeline.core.equations.sampling import SamplingRules, Weighting
from star_pipeline.core.intake.catalog import ShardSizes
from star_pipeline.core.intake.formats import SeedField
from star_pipeline.core.intake.seeds import SeedRules, Turns
from star_pipeline.core.publishing.rows import KeepRules
from star_pipeline.core.records import KEEP, SEED, SEED_PAIR, Pair

AgentName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]


class PairsConfig(Section):
    sampled: tuple[str, ...] = Field((), description="pairs to sample from, each 'instruction agent+response agent'")
    instruction: tuple[str, ...] = Field((), description="with response: the full grid of pairs, in place of sampled")
    response: tuple[str, ...] = Field((), description="with instruction: the full grid of pairs, in place of sampled")
    base: tuple[str, ...] = Field(
        min_length=1, description="pairs called for every seed; the first makes the reference"
    )
    include_seed: bool = Field(
        True,
        description="the seed's own response takes part as a free candidate, and is kept unchanged where it scores highest; "
        "false: only where the reference failed",
    )

    @model_validator(mode="after")
    def _one_way(self) -> "PairsConfig":
        grid = bool(self.instruction) and bool(self.response)
        if bool(self.instruction) != bool(self.response) or grid == bool(self.sampled):
            raise ValueError("expected either sampled, or both instruction and response")
        for pair_id in self.sampled + self.base:
            if pair_id != SEED_PAIR and pair_id.count("+") != 1:
                raise ValueError(
                    f"{pair_id!r} is not a pair; expected 'instruction agent+response agent', such as keep+qwen"
                )
        for name, pairs in (("sampled", self.sampled_pairs), ("base", self.base_pairs)):
            if len(set(pairs)) < len(pairs):
                raise ValueError(f"{name} names a pair twice")
        if any(SEED_PAIR in (pair.instruction_agent, pair.response_agent) for pair in self.sampled_pairs):
            raise ValueError("'seed' cannot be sampled; use include_seed, or list it under base")
        return self

    @property
    def sampled_pairs(self) -> tuple[Pair, ...]:
        if self.sampled:
            return tuple(Pair.parse(pair_id) for pair_id in self.sampled)
        return tuple(Pair(j, k) for j in self.instruction for k in self.response)

    @property
    def base_pairs(self) -> tuple[Pair, ...]:
        return tuple(Pair.parse(pair_id) for pair_id in self.base)


class SeedsConfig(Section):
    fields: dict[SeedField, str] = Field(default_factory=dict, description="our name → the name in your files")
    on_bad_row: Literal["fail", "skip"] = Field("fail", description="fail: stop at a bad row; skip: count it and go on")
    turns: Turns = Field("last", description="of a conversation the last answer is a seed, or every answer is one")
    starter: bool = Field(False, description="take in the shipped starter seeds when the lake has no seed file yet")


class SamplingConfig(Section):
    pairs_per_seed: int = Field(3, ge=0, le=1000, description="M: distinct pairs drawn for each seed")
    from_memory: int = Field(1, ge=0, le=1000, description="l: how many of them come from the memory bank")
    seed: int = Field(0, description="the run's random seed")
    shard_size: int = Field(
        64, ge=1, le=100_000, description="seeds a shard: one Dagster partition, one iteration of the loop"
    )
    first_shard_size: int | None = Field(
        None,
        ge=1,
        le=100_000,
        description="seeds of each of the first 1 + evolution.lag shards, which are drawn before anything is learnt; the next 1 + lag have "
        "twice as many, and so on up to shard_size; null: all have shard_size",
    )
    response_mode: ResponseMode = Field("answer", description="refine: show the seed's own response as a draft")

    @model_validator(mode="after")
    def _memory_within(self) -> "SamplingConfig":
        if self.from_memory > self.pairs_per_seed:
            raise ValueError(f"from_memory ({self.from_memory}) must not exceed pairs_per_seed ({self.pairs_per_seed})")
        return self


class MemoryConfig(Section):
    embedding: str = Field(
        "sentence-transformers/all-MiniLM-L6-v2", min_length=1, description="sentence-transformers model"
    )
    neighbours: int = Field(10, ge=1, le=1000, description="n: nearest instructions looked up for each seed")
    weighting: Weighting = Field("similarity", description="probability: the paper's plain p")
    min_pi: float = Field(0.0, ge=0, le=1, description="least pi that enters the bank")


class SensorConfig(Section):
    settle_s: float = Field(
        10.0, ge=0, le=3600, description="seconds a seed file must have rested before the sensor takes it in"
    )


class UiConfig(Section):
    """What Dagster shows beside the data."""

    owners: tuple[str, ...] = Field((), description="owners of the assets in the UI: team:NAME or e-mail addresses")
    fresh_within_hours: float | None = Field(
        None, gt=0, le=8760, description="what is published counts as stale when it is older than this; null: never"
    )

    @field_validator("owners")
    @classmethod
    def _owners(cls, owners: tuple[str, ...]) -> tuple[str, ...]:
        for owner in owners:
            if not re.fullmatch(r"team:[A-Za-z0-9_.-]+|[^@\s]+@[^@\s]+\.[^@\s]+", owner):
                raise ValueError(f"{owner!r} is no owner; expected team:NAME or an e-mail address")
        return owners


class ChecksConfig(Section):
    """When the share of something in a shard is a warning; see the asset's *Checks*."""

    failed_candidates: float = Field(0.1, ge=0, le=1, description="most candidates that may fail")
    ifd_above_1: float = Field(0.5, ge=0, le=1, description="most responses with an IFD above 1 under the small model")
    unparsed_verdicts: float = Field(0.1, ge=0, le=1, description="most comparisons that may come to no verdict")
    flipped_verdicts: float = Field(0.3, ge=0, le=1, description="most verdicts that may turn round with the order")
    fallbacks: float = Field(
        0.5, ge=0, le=1, description="most seeds that may fall back to the reference or themselves"
    )
    near_duplicates: float = Field(
        0.5, ge=0, le=1, description="most rows of the final data set that may be near-duplicates of a better one"
    )
    least_rows: int = Field(20, ge=1, le=1_000_000, description="of fewer rows than these a share says nothing")


class BudgetConfig(Section):
    usd: float | None = Field(
        None,
        gt=0,
        le=1e6,
        description="most USD that this lake may spend on LLM calls, over all its runs; null: no limit",
    )


class JournalDatabase(Section):
    """The journal, and the lake's lock, in PostgreSQL."""

    postgres_env: str = Field(
        pattern=r"^[A-Za-z_][A-Za-z0-9_]*$",
        description="environment variable with its URL, postgresql://user:password@host:port/database",
    )


JournalPlace = Annotated[str, Field(min_length=1)]


class StarConfig(Section):
    """One run's settings; see the profiles for whole ones."""

    name: str = Field("star-agents", min_length=1, description="names the run in the data set card and the tables")
    agents: dict[AgentName, AgentConfig] = Field(min_length=1, description="the LLMs by the names that pairs use")
    pairs: PairsConfig
    seeds: SeedsConfig = SeedsConfig()
    sampling: SamplingConfig = SamplingConfig()
    scoring: ScoringConfig
    judge: JudgeConfig
    evolution: EvolutionConfig = EvolutionConfig()
    memory: MemoryConfig = MemoryConfig()
    prompts: dict[str, str] = Field(
        default_factory=dict, description="prompt's name → text of the user's own Jinja template"
    )
    dataset: DatasetConfig = DatasetConfig()
    journal: JournalPlace | JournalDatabase | None = Field(
        None,
        description="folder of a journal shared between lakes, relative to this file; {postgres_env: NAME}: in a PostgreSQL database, with "
        "the lake's lock, for several machines; null: journal/ in the lake",
    )
    budget: BudgetConfig = BudgetConfig()
    sensor: SensorConfig = SensorConfig()
    checks: ChecksConfig = ChecksConfig()
    ui: UiConfig = UiConfig()
    study: StudyConfig | None = Field(
        None, description="models tuned on this lake's rows and on other choices of them, and compared; null: no study"
    )
    _prompt_files: dict[str, str] = PrivateAttr(default_factory=dict)

    @property
    def prompt_library(self) -> PromptLibrary:
        """The prompts, which know the files that the user's own come from."""
        return PromptLibrary(self.prompts, self._prompt_files)

    @model_validator(mode="after")
    def _fits_together(self) -> "StarConfig":
        # wherever an address stands: the settings are written into every table
        require_none(self.model_dump(exclude={"prompts"}))
        for reserved in (KEEP, SEED_PAIR):
            if reserved in self.agents:
                raise ValueError(f"agents.{reserved}: this name is taken; choose another")
        known = ", ".join(sorted(self.agents))
        for pair in self.pairs.sampled_pairs + self.pairs.base_pairs:
            if pair == SEED:
                continue
            if pair.response_agent not in self.agents:
                raise ValueError(
                    f"pairs: {pair.pair_id!r} has the unknown response agent {pair.response_agent!r}; there are {known}"
                )
            if pair.instruction_agent not in (*self.agents, KEEP):
                raise ValueError(
                    f"pairs: {pair.pair_id!r} has the unknown instruction agent {pair.instruction_agent!r}; there are keep, {known}"
                )
        for judge in self.judge.judges:
            if judge not in self.agents:
                section = "judge.agents" if self.judge.agents else "judge.agent"
                raise ValueError(f"{section}: unknown agent {judge!r}; there are {known}")
        for field, name in self.study.agents.items() if self.study else ():
            if name not in self.agents:
                raise ValueError(f"{field}: unknown agent {name!r}; there are {known}")
        count = len(self.pairs.sampled_pairs)
        if self.evolution.floor * count > 1 + 1e-12:
            raise ValueError(
                f"evolution.floor: {self.evolution.floor} for {count} pairs sums to more than 1; expected at most {1 / count:.6g}"
            )
        for name, agent in self.agents.items():
            for prompt in (agent.instruction_prompt, agent.response_prompt):
                if prompt not in (*SHIPPED, *self.prompts):
                    raise ValueError(
                        f"agents.{name}: unknown prompt {prompt!r}; there are {', '.join((*SHIPPED, *self.prompts))}"
                    )
        return self

    @property
    def seed_fields(self) -> dict[str, str]:
        return {str(ours): theirs for ours, theirs in self.seeds.fields.items()}

    @property
    def seed_rules(self) -> SeedRules:
        return SeedRules(self.seed_fields, self.seeds.on_bad_row == "skip", self.seeds.turns)

    @property
    def sampled_ids(self) -> tuple[str, ...]:
        return tuple(pair.pair_id for pair in self.pairs.sampled_pairs)

    @property
    def agents_in_use(self) -> dict[str, AgentConfig]:
        """The agents that some pair or the judge needs."""
        pairs = self.pairs.sampled_pairs + self.pairs.base_pairs
        needed = {
            *self.judge.judges,
            *(agent for pair in pairs for agent in (pair.instruction_agent, pair.response_agent)),
        }
        return {name: agent for name, agent in self.agents.items() if name in needed}

    @property
    def shards_at_once(self) -> int:
        """How many runs of the daemon may be in work at once: as many as the lag lets, and as the agents' limits can be parted among."""
        agents = self.agents_in_use.values()
        limits = [limit for one in agents for limit in (one.max_concurrency, one.requests_per_minute) if limit]
        return max(1, min(1 + self.evolution.lag, *limits)) if limits else 1 + self.evolution.lag

    @property
    def shard_sizes(self) -> ShardSizes:
        return ShardSizes(self.sampling.shard_size, self.sampling.first_shard_size, self.evolution.lag)

    @property
    def sampling_rules(self) -> SamplingRules:
        return SamplingRules(
            sampled=self.pairs.sampled_pairs,
            base=self.pairs.base_pairs,
            include_seed=self.pairs.include_seed,
            pairs_per_seed=self.sampling.pairs_per_seed,
            from_memory=self.sampling.from_memory,
            weighting=self.memory.weighting,
            run_seed=self.sampling.seed,
        )

    @property
    def agent_prompts(self) -> dict[str, AgentPrompts]:
        return {
            name: AgentPrompts(agent.instruction_prompt, agent.response_prompt) for name, agent in self.agents.items()
        }

    @property
    def judge_rules(self) -> JudgeRules:
        knobs = self.judge
        first, *others = knobs.judges
        return JudgeRules(
            first, knobs.attempts, knobs.on_reversal, knobs.skip_nonpositive_gap, knobs.params, knobs.optional,
            knobs.mode, knobs.margin, knobs.soft, tuple(others), knobs.ties,
        )  # fmt: skip  # a field's value each

    @property
    def evolution_rules(self) -> EvolutionRules:
        return self.evolution.rules

    @property
    def keep_rules(self) -> KeepRules:
        knobs = self.dataset
        return KeepRules(knobs.fallbacks, knobs.min_pi, knobs.near_duplicates, knobs.top_share, knobs.rows)

    @property
    def shares(self) -> WarningLimits:
        return WarningLimits(**self.checks.model_dump())

    @property
    def fingerprint(self) -> str:
        """Names the ``deciding`` settings; every table records it."""
        rest = self.deciding
        return identity.digest("config", rest.pop("agents"), rest, length=12)

    @property
    def calibration_fingerprint(self) -> str:
        """Names what ``calibrate`` measures: agents in use, judge, scoring and prompts."""
        return calibrated_settings(self.deciding)

    @property
    def dataset_fingerprint(self) -> str:
        """Names the settings that decide what is published of shards that are done; the data set's manifest records it."""
        return identity.digest("dataset", self.name, self.dataset.settled, length=12)

    @property
    def deciding(self) -> JsonObject:
        """The settings that decide a run's content, as plain data: without name, limits, budget and what only watches."""
        idle = {"max_concurrency", "requests_per_minute", "tokens_per_minute", "adaptive_concurrency", "patience_s"}
        idle |= {"timeout_s", "max_tries", "api_key_env", "client", "mode", "batch_discount"}
        agents = {name: agent.model_dump(mode="json", exclude=idle) for name, agent in self.agents.items()}
        rest = self.model_dump(
            mode="json",
            exclude={
                "name": True,
                "agents": True,
                "dataset": True,
                "journal": True,
                "budget": True,
                "sensor": True,
                "checks": True,
                "ui": True,
                "study": True,
                "judge": self.judge.later_defaults,
                "sampling": {"first_shard_size": self.sampling.first_shard_size is None},
                "scoring": dict.fromkeys(WHERE, True) | {"small": IDLE, "large": IDLE},
            },
        )
        if allowed := self.scoring.allowed_difference:  # then where it runs decides values
            rest["scoring"]["tolerance"] = allowed
        return {
            **rest,
            "evolution": self.evolution.deciding,
            "scoring": as_before(rest["scoring"]),
            "agents": agents,
        }
