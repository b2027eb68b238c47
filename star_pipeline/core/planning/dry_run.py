"""What a run would ask and cost, found by running generation and judging against a stand-in for the agents."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from star_pipeline.core.equations.generation import AgentPrompts, Generator, ResponseMode
from star_pipeline.core.equations.ifd_templates import prompt_text
from star_pipeline.core.equations.judge_modes import JudgeMode, judge_mode
from star_pipeline.core.equations.judging import Judge, JudgeRules
from star_pipeline.core.equations.prompts import PromptLibrary
from star_pipeline.core.ports import ChatReply, ChatRequest, Progress
from star_pipeline.core.records import Candidate, IfdScore, PlanRow, Seed

BYTES_A_TOKEN = 4.0
"""Of English under a tokenizer of today; where the lake has measured it, its own figure is used."""


VERDICTS: Mapping[JudgeMode, ChatReply] = {
    "written": ChatReply("[A]", "stop", 0, 0, 0.0, 0.0),
    "json": ChatReply('{"comparison": "", "verdict": "A"}', "stop", 0, 0, 0.0, 0.0),
    "logprobs": ChatReply("A", "length", 0, 0, 0.0, 0.0, top_logprobs=(("A", 0.0),)),
}
"""What a stand-in for a judge says."""

Known = Callable[[ChatRequest], ChatReply | None]


@dataclass(frozen=True)
class ReplyStatistics:
    """How an agent replies in a stage: tokens a reply, and bytes of prompt a token."""

    completion_tokens: float
    bytes_a_token: float = BYTES_A_TOKEN


@dataclass
class CallTotals:
    """Requests to one agent in one stage: ``calls`` to be sent, ``known`` that the journal answers.

    Tokens are means; ``most_completion`` is what ``max_tokens`` allows, None where nothing limits a reply.
    """

    calls: float = 0.0
    known: float = 0.0
    prompt_tokens: float = 0.0
    completion_tokens: float = 0.0
    most_prompt: float = 0.0
    most_completion: float | None = 0.0
    most_calls: float = 0.0

    def add(self, other: "CallTotals", scale: float = 1.0) -> None:
        self.calls += scale * other.calls
        self.known += scale * other.known
        self.prompt_tokens += scale * other.prompt_tokens
        self.completion_tokens += scale * other.completion_tokens
        self.most_prompt += scale * other.most_prompt
        self.most_calls += scale * other.most_calls
        if self.most_completion is None or other.most_completion is None:
            self.most_completion = None
        else:
            self.most_completion += scale * other.most_completion


TotalsByStage = dict[tuple[str, str], CallTotals]


class DryRunChat:
    """A chat model that asks nobody: it gives what is ``known``, and counts the rest, each request once.

    The stand-in reply is as long as the agent's are on average; a judge's says that the first answer is better, or grades it.
    """

    def __init__(
        self,
        known: Known,
        habit: Callable[[str, str], ReplyStatistics],
        most_tokens: Callable[[ChatRequest], int | None],
        bound: Callable[[ChatRequest], int],
    ) -> None:
        self._known, self._habit, self._most_tokens, self._bound = known, habit, most_tokens, bound
        self._seen: set[object] = set()
        self.lines: TotalsByStage = {}

    async def complete(self, request: ChatRequest) -> ChatReply:
        line = self.lines.setdefault((request.agent, request.stage), CallTotals())
        identity = (request.agent, request.messages, request.template_version, request.sample)
        new = identity not in self._seen
        self._seen.add(identity)
        reply = self._known(request)
        if reply:
            line.known += new
            return reply
        habit, most = self._habit(request.agent, request.stage), self._most_tokens(request)
        expected = min(habit.completion_tokens, most) if most else habit.completion_tokens
        if new:
            size = sum(len(message.content.encode("utf-8", "replace")) for message in request.messages)
            tokens = size / habit.bytes_a_token
            line.add(CallTotals(1, 0, tokens, expected, self._bound(request), most, 1))
        text = f"stand-in {len(self._seen)} " + "word" * max(1, round(expected * BYTES_A_TOKEN / 4 - 4))
        if request.stage == "judge":
            return VERDICTS[judge_mode(request.params)]
        if request.stage == "grade":
            return ChatReply("[[5]]", "stop", 0, 0, 0.0, 0.0)
        return ChatReply(text, "stop", 0, 0, 0.0, 0.0)

    async def aclose(self) -> None: ...


class _Silent:
    def stage(self, name: str, total: int, later: float = 0.0) -> None: ...

    def advance(self, count: int = 1) -> None: ...

    def note(self, text: str) -> None: ...


@dataclass(frozen=True)
class Stages:
    """What of a configuration decides the requests."""

    prompts: PromptLibrary
    agents: Mapping[str, AgentPrompts]
    response_mode: ResponseMode
    rules: JudgeRules


async def foresee(
    seeds: Sequence[Seed],
    plan: Sequence[PlanRow],
    candidates: Sequence[Candidate] | None,
    gaps: Mapping[str, float | None] | None,
    chat: DryRunChat,
    stages: Stages,
) -> list[Candidate]:
    """Let ``chat`` count the requests of a shard; ``candidates`` and ``gaps`` are what it has already. Returns its candidates.

    Without gaps every candidate is put before the judge.
    """
    silent: Progress = _Silent()
    if candidates is None:
        generator = Generator(chat, stages.prompts, stages.agents, stages.response_mode)
        candidates = await generator.candidates(plan, seeds, silent)
    known = gaps or {}
    scores = [
        IfdScore(row.candidate_id, row.seed_id, "ok", False, gap=known.get(row.candidate_id) if gaps else 1.0)
        for row in candidates
    ]
    await Judge(chat, stages.prompts, stages.rules).verdicts(candidates, seeds, scores, silent)
    return list(candidates)


@dataclass(frozen=True)
class ModelSize:
    """Of a causal LM: ``parameters`` that a token is multiplied with (embeddings looked up do not count), layers, width."""

    parameters: int
    layers: int
    width: int


def sequence_flops(model: ModelSize, tokens: float) -> float:
    """One forward pass: 2 FLOPs a parameter and token, and causal attention, 2 * layers * width * tokens^2."""
    return 2.0 * model.parameters * tokens + 2.0 * model.layers * model.width * tokens * tokens


@dataclass
class ScoringWork:
    """Candidates to be scored; their tokens in both passes of Eq. 4, for both models."""

    candidates: float = 0.0
    tokens: float = 0.0
    flops: dict[str, float] = field(default_factory=dict)


def scoring_work(
    candidates: Sequence[Candidate],
    seeds: Sequence[Seed],
    models: Mapping[str, ModelSize],
    template: str,
    max_length: int,
    bytes_a_token: float,
    scale: float = 1.0,
) -> ScoringWork:
    """Eq. 4 needs [start, prompt, response] and [start, response] under each model; a failed candidate needs nothing."""
    seed_by_id = {seed.seed_id: seed for seed in seeds}
    work = ScoringWork(flops=dict.fromkeys(models, 0.0))
    for row in candidates:
        if row.status != "ok":
            continue
        seed = seed_by_id[row.seed_id]
        form = "plain" if template == "plain" else "alpaca"
        prompt = prompt_text(form, seed.system, seed.history, row.instruction or "")
        prompt_tokens, response_tokens = (
            len(text.encode("utf-8", "replace")) / bytes_a_token for text in (prompt, row.response or "")
        )
        response_tokens = min(response_tokens, max_length - 1 - prompt_tokens)
        if response_tokens <= 0:
            continue  # too long a prompt, or nothing to score
        passes = (1 + prompt_tokens + response_tokens, 1 + response_tokens)
        work.candidates += scale
        work.tokens += scale * sum(passes) * len(models)
        for name, model in models.items():
            work.flops[name] += scale * sum(sequence_flops(model, tokens) for tokens in passes)
    return work
