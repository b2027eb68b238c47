"""What a study knows: questions, the rows of its arms, what was measured, and what that shows. A field is a column."""

from dataclasses import dataclass
from typing import Literal

from star_pipeline.core.records import Message, Outcome, Verdict

Choice = Literal["rule", "fallback_base", "fallback_seed"]
"""What an arm took of a seed: by its rule; the reference, or the seed's own text, where the rule has no value for any candidate."""
Reason = Literal["overlap", "empty_response", "not_in_lake"]
Better = Literal["lower", "higher"]
Shown = Literal["better", "worse", "seeds disagree", "no difference shown"]


@dataclass(frozen=True, slots=True)
class Question:
    """What tuned models are asked, or, with references, what strong answers are; named by its content.

    ``turns``: what the user says, one after the other, each answered before the next; ``references``: an answer to each, or None.
    ``history`` comes before the first turn. ``name`` is the question's own id in its file, else its row.
    """

    question: str
    source: str
    source_row: int
    name: str
    category: str | None
    system: str | None
    history: tuple[Message, ...]
    turns: tuple[str, ...]
    references: tuple[str | None, ...]


@dataclass(frozen=True, slots=True)
class ArmRow:
    """A row to train on. ``value`` is what the arm's rule looks at (null where it looks at nothing); ``n_tokens`` the response's."""

    seed_id: str
    candidate_id: str | None
    shard: str
    messages: tuple[Message, ...]
    instruction: str
    response: str
    pair_id: str
    n_tokens: int | None
    value: float | None
    choice: Choice


@dataclass(frozen=True, slots=True)
class StudyArm:
    arm: str
    rule: str
    rows: int
    tokens: int
    fallbacks: int
    own: int
    as_star: int | None
    left_out_overlap: int
    left_out_empty: int
    left_out_elsewhere: int
    left_out_tokens: int
    digest: str


@dataclass(frozen=True, slots=True)
class StudyLeftOut:
    """A seed that no arm has a row of; ``question`` is what it overlaps with."""

    seed_id: str
    shard: str
    reason: Reason
    question: str | None
    detail: str


@dataclass(frozen=True, slots=True)
class StudyLoss:
    """``nll``: mean loss of the reference answer given its instruction, nats a token, under the model tuned on ``arm`` with ``seed``."""

    target: str
    arm: str
    seed: int
    question: str
    source: str
    category: str | None
    nll: float | None
    n_tokens: int | None
    status: str


@dataclass(frozen=True, slots=True)
class StudyWin:
    """The judge's comparison of an arm's answer with the baseline's; ``win`` 1, 0.5 or 0, null where there is no verdict."""

    target: str
    arm: str
    seed: int
    question: str
    baseline: str
    source: str
    category: str | None
    verdict: Verdict
    verdict_first: Outcome | None
    verdict_swapped: Outcome | None
    win: float | None
    length: int
    length_baseline: int
    reply_first: str | None
    reply_swapped: str | None
    error: str | None
    judge_agent: str | None
    attempts: int
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float


@dataclass(frozen=True, slots=True)
class StudyGrade:
    """The judge's grade, 1 to 10, of the answer to turn ``turn`` (from 1); null where it gave none."""

    target: str
    arm: str
    seed: int
    question: str
    turn: int
    source: str
    category: str | None
    grade: float | None
    reply: str | None
    error: str | None
    judge_agent: str | None
    attempts: int
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float


@dataclass(frozen=True, slots=True)
class StudyAnswer:
    """What a model answered to turn ``turn`` (from 1); ``text`` is null where there is no answer, and ``error`` says why."""

    target: str
    arm: str
    seed: int
    question: str
    turn: int
    source: str
    category: str | None
    text: str | None
    status: str
    error: str | None
    tokens: int


@dataclass(frozen=True, slots=True)
class StudyTask:
    """One question of a task that a program marks: lm-eval's, or IFEval's instructions."""

    target: str
    arm: str
    seed: int
    task: str
    metric: str
    question: str
    value: float


@dataclass(frozen=True, slots=True)
class StudyResult:
    """What a measure says of an arm against another; ``part`` is the category, task or file, ``all`` for all questions.

    ``difference`` is the arm's figure minus the baseline's, paired by question; ``low`` and ``high`` its 95% interval (Student-t over
    questions), ``boot_*`` the same by bootstrap, ``seeds_*`` over training seeds. ``needed``: questions with which a difference such as
    the one seen would be shown 4 times of 5; ``detectable``: the smallest that these questions would show so. ``tuning*``: the arm's
    figure minus the untuned target's, in the same way; null where that was not measured.
    """

    target: str
    measure: str
    part: str
    arm: str
    baseline: str
    better: Better
    figure: float
    figure_low: float | None
    figure_high: float | None
    difference: float | None
    low: float | None
    high: float | None
    boot_low: float | None
    boot_high: float | None
    p: float | None
    p_holm: float | None
    n: int
    missing: int
    seeds: int
    seeds_low: float | None
    seeds_high: float | None
    needed: int | None
    detectable: float | None
    shown: Shown | None
    words: str
    tuning: float | None = None
    tuning_low: float | None = None
    tuning_high: float | None = None
    tuning_p_holm: float | None = None
    tuning_shown: Shown | None = None
