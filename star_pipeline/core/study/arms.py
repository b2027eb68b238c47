"""Arms: which row of each seed every training set takes, without any call.

What an arm holds does not depend on which other arms are asked for, so that a further arm leaves those that are trained as they are.
Every arm has a row of the same seeds. Where a rule has no value for any candidate (all failed, say), the arm takes what Eq. 1 takes
there: the reference, and where that failed too, the seed's own text. So an arm differs from ``star`` by its rule alone. A seed whose
own response is empty, which the arm of the seeds could not serve, is in no arm.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from star_pipeline.core import identity
from star_pipeline.core.publishing.overlap import Overlaps
from star_pipeline.core.records import SEED_PAIR, Candidate, CompositeScore, IfdScore, Message, Seed, StarRow
from star_pipeline.core.study.names import SEEDS, Equalise, Rule
from star_pipeline.core.study.records import ArmRow, Choice, StudyArm, StudyLeftOut

CountTokens = Callable[[Sequence[str]], Sequence[int]]


@dataclass(frozen=True, slots=True)
class Option:
    """A candidate with its scores."""

    candidate: Candidate
    ifd: IfdScore
    score: CompositeScore

    @property
    def usable(self) -> bool:
        return self.candidate.status == "ok" and bool((self.candidate.response or "").strip())


@dataclass(frozen=True, slots=True)
class SeedOptions:
    """A seed with its candidates, as in its shard's tables."""

    shard: str
    seed: Seed
    options: tuple[Option, ...]


def options_of(
    shard: str,
    seeds: Iterable[Seed],
    candidates: Iterable[Candidate],
    ifd_scores: Iterable[IfdScore],
    scores: Iterable[CompositeScore],
) -> list[SeedOptions]:
    """A shard's tables by seed, in the order of its seeds."""
    ifd_of = {row.candidate_id: row for row in ifd_scores}
    score_of = {row.candidate_id: row for row in scores}
    of: dict[str, list[Option]] = {}
    for candidate in candidates:
        option = Option(candidate, ifd_of[candidate.candidate_id], score_of[candidate.candidate_id])
        of.setdefault(candidate.seed_id, []).append(option)
    return [SeedOptions(shard, seed, tuple(of.get(seed.seed_id, ()))) for seed in seeds]


def chosen(rule: Rule, given: SeedOptions, run_seed: int) -> ArmRow:
    """The row that the arm takes of a seed. Ties go to the smaller candidate_id, a hash; of ``gap`` first to the larger gap.

    random: the usable candidate whose digest with the run's seed is smallest, which is any of them with the same chance;
    longest: response tokens under the target; ifd: IFD under the target; likely: -nll given the instruction under the target;
    judge: pi_llm above 0; gap: pi_dual above 0; star: what Eq. 1 selected.
    """
    usable = [option for option in given.options if option.usable]
    if rule == SEEDS:
        return _own(given, "rule")
    if rule == "star":
        [selected] = [option for option in given.options if option.score.selected]
        selection = selected.score.selection
        if selection == "fallback_seed":
            return _own(given, "fallback_seed", selected.score.pi)
        return _row(given, selected, selected.score.pi, "rule" if selection == "best" else "fallback_base")
    if rule == "random":
        drawn = sorted(usable, key=lambda option: _drawn(run_seed, option.candidate.candidate_id))
        return _row(given, drawn[0], None, "rule") if drawn else _fallback(given)
    valued = [(value, option) for option in usable if (value := _VALUES[rule](option)) is not None]
    if not valued:
        return _fallback(given)

    def place(item: tuple[float, Option]) -> tuple[float, float, str]:
        value, option = item
        return -value, -_gap(option) if rule == "gap" else 0.0, option.candidate.candidate_id

    value, best = min(valued, key=place)
    return _row(given, best, value, "rule")


def _drawn(run_seed: int, name: str) -> str:
    return identity.digest("study", run_seed, name)


def _gap(option: Option) -> float:
    score = option.score
    return (score.gap if score.gap_calibrated is None else score.gap_calibrated) or 0.0


def _positive(value: float | None) -> float | None:
    return value if value is not None and value > 0 else None


_VALUES: dict[Rule, Callable[[Option], float | None]] = {
    "longest": lambda option: option.ifd.n_tokens_small,
    "ifd": lambda option: option.ifd.ifd_small,
    "likely": lambda option: None if option.ifd.nll_given_small is None else -option.ifd.nll_given_small,
    "judge": lambda option: _positive(option.score.pi_llm),
    "gap": lambda option: _positive(option.score.pi_dual),
}


def _fallback(given: SeedOptions) -> ArmRow:
    """As in Eq. 1 where no pi is positive: the reference, else the seed's own text."""
    reference = next((option for option in given.options if option.candidate.slot == 0), None)
    if reference is not None and reference.usable:
        return _row(given, reference, None, "fallback_base")
    return _own(given, "fallback_seed")


def _own(given: SeedOptions, choice: Choice, value: float | None = None) -> ArmRow:
    own = next((o for o in given.options if o.candidate.pair_id == SEED_PAIR and o.usable), None)
    if own is not None:
        return _row(given, own, value, choice)
    seed = given.seed
    return _made(given, None, seed.instruction, seed.response, SEED_PAIR, None, value, choice)


def _row(given: SeedOptions, option: Option, value: float | None, choice: Choice) -> ArmRow:
    made = option.candidate
    return _made(
        given, made.candidate_id, made.instruction or "", made.response or "", made.pair_id,
        option.ifd.n_tokens_small, value, choice,
    )  # fmt: skip  # a field's value each


def _made(
    given: SeedOptions,
    candidate_id: str | None,
    instruction: str,
    response: str,
    pair_id: str,
    n_tokens: int | None,
    value: float | None,
    choice: Choice,
) -> ArmRow:
    seed = given.seed
    opening = (Message("system", seed.system),) if seed.system else ()
    messages = (*opening, *seed.history, Message("user", instruction), Message("assistant", response))
    return ArmRow(
        seed.seed_id, candidate_id, given.shard, messages, instruction, response, pair_id, n_tokens, value, choice
    )


def from_elsewhere(row: StarRow, shard: str) -> ArmRow:
    """What another lake selected of a seed that lies in ``shard`` here; its tokens are still to be counted."""
    selection: Choice = "rule" if row.selection == "best" else row.selection
    return ArmRow(
        row.seed_id, row.candidate_id, shard, row.messages, row.instruction, row.response, row.pair_id, None, row.pi, selection
    )  # fmt: skip  # a field's value each


@dataclass(frozen=True)
class Asked:
    """What arms are made. ``lakes``: name -> seed_id -> what is selected there."""

    rules: Sequence[Rule]
    lakes: Mapping[str, Mapping[str, StarRow]]
    run_seed: int
    equalise: Equalise
    overlaps: Overlaps


class Arms:
    """Takes the seeds in, shard after shard; ``finished`` gives the rows."""

    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        self._rows: dict[str, list[ArmRow]] = {name: [] for name in (*asked.rules, *asked.lakes)}
        self._star: list[tuple[str, str]] = []
        self.left_out: list[StudyLeftOut] = []

    def add(self, seeds: Iterable[SeedOptions]) -> None:
        asked = self._asked
        for given in seeds:
            seed_id = given.seed.seed_id
            if reason := self._unfit(given):
                self.left_out.append(reason)
                continue
            for rule in asked.rules:
                self._rows[rule].append(chosen(rule, given, asked.run_seed))
            for name, rows in asked.lakes.items():
                self._rows[name].append(from_elsewhere(rows[seed_id], given.shard))
            star = chosen("star", given, asked.run_seed)
            self._star.append((star.instruction, star.response))

    def _unfit(self, given: SeedOptions) -> StudyLeftOut | None:
        seed, lakes = given.seed, self._asked.lakes
        if not seed.response.strip():
            return StudyLeftOut(seed.seed_id, given.shard, "empty_response", None, "the seed's own response is empty")
        if lacking := [name for name, rows in lakes.items() if seed.seed_id not in rows]:
            return StudyLeftOut(seed.seed_id, given.shard, "not_in_lake", None, f"not selected in {', '.join(lacking)}")
        for where, asked, answers in self._texts(given):
            if found := self._asked.overlaps.first(asked, answers):
                detail = f"{where} shares with {found.where}: {found.shared}"
                return StudyLeftOut(seed.seed_id, given.shard, "overlap", found.question, detail)
        return None

    def _texts(self, given: SeedOptions) -> Iterator[tuple[str, list[str], list[str]]]:
        """(where, user's turns, answers) of the seed and of all that any arm could take of it."""
        seed = given.seed
        asked = [turn.content for turn in seed.history if turn.role == "user"]
        answers = [turn.content for turn in seed.history if turn.role == "assistant"]
        yield "the seed", [*asked, seed.instruction], [*answers, seed.response, *([seed.system] if seed.system else [])]
        seen = {seed.instruction, seed.response}
        for option in given.options:
            made = option.candidate
            texts = [text if text and text not in seen else "" for text in (made.instruction, made.response)]
            if option.usable and any(texts):
                seen.update(texts)
                yield f"candidate {made.candidate_id}", [texts[0]], [texts[1]]
        for name, rows in self._asked.lakes.items():
            row = rows[seed.seed_id]
            yield f"candidate {row.candidate_id} of {name}", [row.instruction], [row.response]

    def finished(self, count: CountTokens) -> tuple[dict[str, list[ArmRow]], list[StudyArm]]:
        """arm -> its rows, in the order in which the seeds came; and what is told of each arm. ``count`` counts tokens of responses."""
        rows = with_tokens(self._rows, count)
        star = {row.seed_id: texts for row, texts in zip(next(iter(rows.values()), []), self._star, strict=True)}
        before = {name: len(of) for name, of in rows.items()}
        if self._asked.equalise == "tokens":
            rows = of_equal_tokens(rows, self._asked.run_seed)
        reasons = Counter(row.reason for row in self.left_out)
        told = [
            StudyArm(
                name,
                name if name not in self._asked.lakes else "lake",
                len(of),
                sum(row.n_tokens or 0 for row in of),
                sum(row.choice != "rule" for row in of),
                sum(row.pair_id == SEED_PAIR for row in of),
                sum((row.instruction, row.response) == star[row.seed_id] for row in of),
                reasons["overlap"],
                reasons["empty_response"],
                reasons["not_in_lake"],
                before[name] - len(of),
                content(of),
            )
            for name, of in rows.items()
        ]
        return rows, told


def with_tokens(rows: Mapping[str, Sequence[ArmRow]], count: CountTokens) -> dict[str, list[ArmRow]]:
    """The rows with their tokens: as they were counted when they were scored, and by ``count`` where they were not."""
    texts = list(dict.fromkeys(row.response for of in rows.values() for row in of if row.n_tokens is None))
    counted = dict(zip(texts, count(texts), strict=True)) if texts else {}
    return {
        name: [row if row.n_tokens is not None else replace(row, n_tokens=counted[row.response]) for row in of]
        for name, of in rows.items()
    }


def of_equal_tokens(rows: Mapping[str, Sequence[ArmRow]], run_seed: int) -> dict[str, list[ArmRow]]:
    """Each arm cut to at most the tokens of the arm that has fewest, and by less than its next row from it.

    All arms give up seeds in one random order, drawn by the run's seed: an arm of longer responses keeps the first of the seeds that an
    arm of shorter ones keeps more of. The rows stay in their order.
    """
    budget = min((sum(row.n_tokens or 0 for row in of) for of in rows.values()), default=0)
    kept = {}
    for name, of in rows.items():
        left, seeds = budget, set()
        for row in sorted(of, key=lambda row: _drawn(run_seed, row.seed_id)):
            left -= row.n_tokens or 0
            if left < 0:
                break
            seeds.add(row.seed_id)
        kept[name] = [row for row in of if row.seed_id in seeds]
    return kept


def content(rows: Iterable[ArmRow]) -> str:
    """Names what is trained on: the conversations, in their order."""
    return identity.digest("arm", [[[turn.role, turn.content] for turn in row.messages] for row in rows], length=20)
