"""``star-pipeline estimate``: what a run would ask, cost and compute, for the seeds as they are; nothing is sent or written."""

import asyncio
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict

import pyarrow.compute as pc
from rich.console import Console

from star_pipeline.adapters.journal.opening import reading_journal
from star_pipeline.adapters.journal.request_keys import request_key
from star_pipeline.adapters.lake import Lake
from star_pipeline.adapters.llm.prices import max_tokens, price, prompt_bound
from star_pipeline.adapters.model_size import model_size
from star_pipeline.adapters.seed_intake import would_hold
from star_pipeline.adapters.shard_state import drawn_unlearnt
from star_pipeline.commands.estimate_lines import agents_table, priced, print_study
from star_pipeline.commands.study_estimate import estimate_study
from star_pipeline.config import StarConfig, load_config
from star_pipeline.core.equations.evolution import Snapshot, for_pairs, initial_snapshot, snapshot_of
from star_pipeline.core.equations.sampling import plan_seed
from star_pipeline.core.errors import ModelError, SeedError
from star_pipeline.core.intake.catalog import update_catalog
from star_pipeline.core.journal import PICO, Entry
from star_pipeline.core.planning.cost_estimate import RunEstimate
from star_pipeline.core.planning.dry_run import (
    BYTES_A_TOKEN,
    CallTotals,
    DryRunChat,
    ModelSize,
    ReplyStatistics,
    ScoringWork,
    Stages,
    TotalsByStage,
    foresee,
    scoring_work,
)
from star_pipeline.core.planning.study_estimate import StudyEstimate
from star_pipeline.core.planning.unlearnt import Unlearnt
from star_pipeline.core.ports import ChatReply, ChatRequest
from star_pipeline.core.rates import rate
from star_pipeline.core.records import Candidate, PlanRow, Seed
from star_pipeline.core.tables import (
    AGENT_PAIR_PROBABILITIES,
    CANDIDATES,
    IFD_SCORES,
    JUDGE_VERDICTS,
    SAMPLING_PLAN,
    SHARD_MANIFEST,
)

_MOST_SEEDS = 1000
"""More untouched seeds than that are sampled, evenly."""
_LAST_SHARDS = 20
_JUDGE_TOKENS = 150.0


def run_estimate(config: str, lake: Lake, paths: Sequence[str]) -> RunEstimate:
    """Raises ConfigError and SeedError as ``run`` would."""
    settings = load_config(config)
    return _Estimator(settings, lake).estimate(paths)


class _Sample:
    """Of a stream of seeds at most ``most``, evenly spread, and how many each of them stands for."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._stride = 1
        self.total = 0
        self.kept: list[Seed] = []

    def add(self, seeds: Sequence[Seed]) -> None:
        for seed in seeds:
            if self.total % self._stride == 0:
                self.kept.append(seed)
                if len(self.kept) > self._most:
                    self._stride *= 2
                    self.kept = self.kept[::2]
            self.total += 1

    @property
    def scale(self) -> float:
        return self.total / len(self.kept) if self.kept else 0.0


class _Estimator:
    def __init__(self, settings: StarConfig, lake: Lake) -> None:
        self._settings, self._lake = settings, lake
        self._assumptions: list[str] = []
        self._live = 0
        self._unlearnt: Unlearnt | None = None
        with reading_journal(settings, lake) as journal:
            self._ledger = journal.ledger()
        self._prices = {name: price(agent) for name, agent in settings.agents.items()}

    def estimate(self, paths: Sequence[str]) -> RunEstimate:
        untouched, shards = self._untouched(paths)
        started = list(self._started())
        judged = self._judged_share()
        bytes_a_token = self._scoring_bytes()
        models, flops_unknown = self._models()
        lines: TotalsByStage = {}
        work = ScoringWork(flops=dict.fromkeys(models, 0.0))
        snapshot = self._snapshot()
        habits = self._habits([*untouched.kept, *(seed for _, seeds in started for seed in seeds)])
        with reading_journal(self._settings, self._lake) as journal:
            parts: list[tuple[str | None, Sequence[Seed], float]] = [(shard, seeds, 1.0) for shard, seeds in started]
            parts += [(None, untouched.kept, untouched.scale)] if untouched.kept else []
            for shard, seeds, scale in parts:
                chat = DryRunChat(self._known(journal.find), habits, self._most_tokens, prompt_bound)
                done = asyncio.run(self._foresee(shard, seeds, snapshot, chat))
                for key, line in chat.lines.items():
                    share = judged if key[1] == "judge" and not done[1] else 1.0
                    lines.setdefault(key, CallTotals()).add(
                        _shared(line, share, self._settings.judge_rules.tries, key[1]), scale
                    )
                if not done[1]:
                    scoring = self._settings.scoring
                    part = scoring_work(
                        done[0], seeds, models, scoring.template, scoring.max_length, bytes_a_token, scale
                    )
                    work.candidates += part.candidates
                    work.tokens += part.tokens
                    for name, count in part.flops.items():
                        work.flops[name] += count
        for name, agent in self._settings.agents_in_use.items():
            live, batch = price(agent, batch=False), self._prices[name]
            if agent.mode == "batch" and live and batch and live.completion:
                self._assumptions.append(
                    f"{name} asks in batches, at {batch.completion / live.completion:.0%} of the price of a live reply"
                )
        if untouched.scale > 1:
            self._assumptions.append(
                f"counted on {len(untouched.kept):,} of {untouched.total:,} untouched seeds, evenly spread, and scaled"
            )
        study = self._study(untouched.kept)
        return RunEstimate(
            seeds_to_do=untouched.total + sum(len(seeds) for _, seeds in started),
            shards_to_do=shards + len(started),
            agents=tuple(
                priced(agent, stage, line, self._prices[agent]) for (agent, stage), line in sorted(lines.items())
            ),
            candidates_to_score=round(work.candidates),
            scoring_tokens=round(work.tokens),
            flops={**work.flops, **flops_unknown},
            spent_usd=sum(row.spent + row.reserved for row in self._ledger) / PICO,
            budget_usd=self._settings.budget.usd,
            assumptions=tuple(sorted(self._assumptions)),
            study=study,
            unlearnt=self._unlearnt,
        )

    def _untouched(self, paths: Sequence[str]) -> tuple[_Sample, int]:
        """The seeds that nothing has been planned for: new ones, and those of shards without a plan; and in how many shards."""
        settings, lake, sample = self._settings, self._lake, _Sample(_MOST_SEEDS)
        starter = settings.seeds.starter and not lake.catalog_shards()
        seeds = would_hold(lake, paths, settings.seed_rules, starter, self._assumptions.append)
        update = update_catalog(
            lake.catalog_rows(), seeds, settings.shard_sizes, lambda key, members: sample.add(members)
        )
        if not update.entries:
            raise SeedError(f"{lake.seeds}: no seed files; name some with --seeds FILE")
        self._unlearnt = drawn_unlearnt(lake, update.entries, settings.evolution.lag)
        live = {entry.shard for entry in update.entries if entry.live}
        self._live = sum(entry.live for entry in update.entries)
        waiting = [
            shard for shard in lake.catalog_shards() if shard in live and not lake.has_table(SAMPLING_PLAN, shard)
        ]
        for shard in waiting:
            sample.add(lake.read_table(SHARD_MANIFEST, shard))
        return sample, len(update.new_shards) + len(waiting)

    def _started(self) -> Iterator[tuple[str, list[Seed]]]:
        """The shards that are planned and not yet judged."""
        for shard in self._lake.catalog_shards():
            if self._lake.has_table(SAMPLING_PLAN, shard) and not self._lake.has_table(JUDGE_VERDICTS, shard):
                planned = {row.seed_id for row in self._lake.read_table(SAMPLING_PLAN, shard)}
                yield shard, [seed for seed in self._lake.read_table(SHARD_MANIFEST, shard) if seed.seed_id in planned]

    async def _foresee(
        self, shard: str | None, seeds: Sequence[Seed], snapshot: Snapshot, chat: DryRunChat
    ) -> tuple[Sequence[Candidate], bool]:
        """(candidates, whether they are scored already)."""
        lake, rules = self._lake, self._settings.sampling_rules
        plan: list[PlanRow] = (
            lake.read_table(SAMPLING_PLAN, shard)
            if shard
            else [row for seed in seeds for row in plan_seed(seed, snapshot, (), rules)]
        )
        candidates = lake.read_table(CANDIDATES, shard) if shard and lake.has_table(CANDIDATES, shard) else None
        gaps = None
        if shard and lake.has_table(IFD_SCORES, shard):
            gaps = {row.candidate_id: row.gap for row in lake.read_table(IFD_SCORES, shard)}
        return await foresee(seeds, plan, candidates, gaps, chat, self._stages()), gaps is not None

    def _stages(self) -> Stages:
        settings = self._settings
        mode = settings.sampling.response_mode
        return Stages(settings.prompt_library, settings.agent_prompts, mode, settings.judge_rules)

    def _known(self, find: Callable[[bytes], Entry | None]) -> Callable[[ChatRequest], ChatReply | None]:
        def known(request: ChatRequest) -> ChatReply | None:
            entry = find(request_key(request, self._settings.agents[request.agent]))
            if entry is None:
                return None
            return ChatReply(
                entry.text, entry.finish_reason, entry.prompt_tokens, entry.completion_tokens, 0.0, 0.0, booked=False,
                top_logprobs=entry.top_logprobs,
            )  # fmt: skip

        return known

    def _most_tokens(self, request: ChatRequest) -> int | None:
        return max_tokens({**self._settings.agents[request.agent].params, **request.params})

    def _measured(self) -> dict[tuple[str, str], ReplyStatistics]:
        return {
            (row.agent, row.stage): ReplyStatistics(
                row.completion_tokens / row.replies,
                row.prompt_bytes / row.prompt_tokens if row.prompt_tokens else BYTES_A_TOKEN,
            )
            for row in self._ledger
            if row.replies
        }

    def _habits(self, seeds: Sequence[Seed]) -> Callable[[str, str], ReplyStatistics]:
        """From this lake's ledger; where an agent has not been asked yet, from its other stages' siblings and the seeds."""
        measured = self._measured()
        response, instruction = (
            _mean([len(getattr(seed, name).encode("utf-8", "replace")) for seed in seeds]) / BYTES_A_TOKEN
            for name in ("response", "instruction")
        )
        assumed = {"respond": max(response, 1.0), "rewrite": max(1.5 * instruction, 1.0), "judge": _JUDGE_TOKENS}
        told: set[tuple[str, str]] = set()

        def habit(agent: str, stage: str) -> ReplyStatistics:
            if (agent, stage) in measured:
                found, how = measured[agent, stage], "measured in this lake"
            else:
                found = ReplyStatistics(assumed[stage])
                source = {"respond": "as long as the seeds' responses", "rewrite": "1.5 times the seeds' instructions"}
                how = f"assumed, {source.get(stage, 'a short argument')}"
            if (agent, stage) not in told:
                told.add((agent, stage))
                self._assumptions.append(
                    f"{agent}, {stage}: {found.completion_tokens:.0f} tokens a reply ({how}), {found.bytes_a_token:.2f} bytes of "
                    "prompt a token"
                )
            return found

        return habit

    def _study(self, seeds: Sequence[Seed]) -> StudyEstimate | None:
        """Of the whole lake, as it will be after the run."""
        if self._settings.study is None:
            return None
        shards = self._lake.catalog_shards()
        some = list(seeds) or self._lake.read_table(SHARD_MANIFEST, shards[0])
        measured = self._measured()

        def habit(agent: str, stage: str) -> ReplyStatistics:
            return measured.get((agent, stage), ReplyStatistics(_JUDGE_TOKENS))

        found, said = estimate_study(self._settings, self._settings.study, self._lake, some, self._live, habit)
        self._assumptions += said
        return found

    def _judged_share(self) -> float:
        """Which share of the candidates has a positive gap and is put before the judge."""
        if not self._settings.judge.skip_nonpositive_gap:
            return 1.0
        verdicts = [
            self._lake.read_arrow(JUDGE_VERDICTS, shard).column("verdict")
            for shard in self._lake.shards_of(JUDGE_VERDICTS)[-_LAST_SHARDS:]
        ]
        count = sum(len(column) for column in verdicts)
        if not count:
            self._assumptions.append(
                "every candidate is judged: the share without a positive gap, which is skipped, is not known yet"
            )
            return 1.0
        skipped = sum(pc.sum(pc.equal(column, "skipped")).as_py() or 0 for column in verdicts)
        self._assumptions.append(
            f"{rate(count - skipped, count)} candidates were judged in this lake so far, the rest was skipped; so it is expected to go on"
        )
        return float(1 - skipped / count)

    def _scoring_bytes(self) -> float:
        """Bytes of a response a token of the small scoring model."""
        for shard in reversed(self._lake.shards_of(IFD_SCORES)):
            texts = {row.candidate_id: row.response or "" for row in self._lake.read_table(CANDIDATES, shard)}
            rows = [row for row in self._lake.read_table(IFD_SCORES, shard) if row.n_tokens_small and not row.truncated]
            if rows:
                size = sum(len(texts.get(row.candidate_id, "").encode("utf-8", "replace")) for row in rows)
                found = size / sum(row.n_tokens_small or 0 for row in rows)
                self._assumptions.append(f"scoring: {found:.2f} bytes a token, measured in {shard}")
                return max(found, 0.1)
        self._assumptions.append(f"scoring: {BYTES_A_TOKEN:g} bytes a token, assumed")
        return BYTES_A_TOKEN

    def _models(self) -> tuple[dict[str, ModelSize], dict[str, str]]:
        models: dict[str, ModelSize] = {}
        unknown: dict[str, str] = {}
        for role in ("small", "large"):
            name = str(getattr(self._settings.scoring, role))
            try:
                models[role] = model_size(name)
            except ModelError as error:
                unknown[role] = str(error)
                continue
            self._assumptions.append(
                f"scoring {role}: {models[role].parameters:,} parameters a token ({name}), 2 FLOPs each, two passes (Eq. 4), "
                "causal attention"
            )
        return models, unknown

    def _snapshot(self) -> Snapshot:
        pairs = self._settings.sampled_ids
        shards = self._lake.shards_of(AGENT_PAIR_PROBABILITIES)
        found = initial_snapshot(pairs)
        if shards:
            found = for_pairs(snapshot_of(self._lake.read_table(AGENT_PAIR_PROBABILITIES, shards[-1])), pairs)
        by = f"the probabilities after {shards[-1]}" if shards else "equal probabilities"
        by += " (Thompson sampling)" if found.tallies else ""
        self._assumptions.append(f"pairs are drawn by {by}, memory left out")
        return found


def _shared(line: CallTotals, share: float, attempts: int, stage: str) -> CallTotals:
    """Expected: the share that is judged, each asked once. At most: all of them, as often as ``judge.attempts`` allows."""
    times = attempts if stage == "judge" else 1
    return CallTotals(
        share * line.calls,
        line.known,
        share * line.prompt_tokens,
        share * line.completion_tokens,
        times * line.most_prompt,
        None if line.most_completion is None else times * line.most_completion,
        times * line.calls,
    )


def _mean(values: Sequence[int]) -> float:
    return sum(values) / len(values) if values else 0.0


def print_estimate(estimate: RunEstimate, form: str) -> None:
    if form == "json":
        within = asdict(found) if (found := estimate.within_budget) else None
        beside = {"usd": estimate.usd, "most_usd": estimate.most_usd, "within_budget": within}
        told = {**asdict(estimate), **beside, "conclusion": estimate.conclusion}
        if study := estimate.study:
            told["study"] = {**asdict(study), "usd": study.usd, "most_usd": study.most_usd}
        print(json.dumps(told, indent=2))
        return
    console = Console(highlight=False) if sys.stdout.isatty() else Console(highlight=False, width=140)
    console.print(f"{estimate.seeds_to_do:,} seeds in {estimate.shards_to_do:,} shards to do")
    if estimate.unlearnt:
        console.print(estimate.unlearnt.text, soft_wrap=True)
    console.print(agents_table(estimate.agents, estimate.usd, estimate.most_usd))
    flops = ", ".join(
        f"{role} {value:.3g} FLOPs" if isinstance(value, float) else f"{role} unknown ({value})"
        for role, value in estimate.flops.items()
    )
    console.print(f"scoring: {estimate.candidates_to_score:,} candidates, {estimate.scoring_tokens:,} tokens; ", end="")
    console.print(flops, markup=False)
    if estimate.budget_usd:
        console.print(f"budget: {estimate.budget_usd:g} USD, of which {estimate.spent_usd:.4f} is spent or reserved")
    console.print(f"so {estimate.conclusion}", soft_wrap=True)
    if estimate.study:
        print_study(console, estimate.study)
    console.print("how these figures came about:")
    for text in estimate.assumptions:
        console.print(f"  {text}", markup=False)
    console.print(
        "  retries, re-asks and failures are not expected; 'at most' holds for replies of max_tokens and prompts of a token a byte"
    )
