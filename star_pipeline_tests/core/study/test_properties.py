"""What holds of any input: readers refuse with a reason, differences do not depend on order or level, equal tokens are equal."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from star_pipeline.core.intake.formats import BadRecord
from star_pipeline.core.records import Message
from star_pipeline.core.study.arms import content, of_equal_tokens
from star_pipeline.core.study.grades import parse_grade
from star_pipeline.core.study.identity import model_id
from star_pipeline.core.study.questions import References, question_of
from star_pipeline.core.study.records import ArmRow, Question
from star_pipeline.core.study.statistics import compare
from star_pipeline.core.study.wins import length_controlled

quick = settings(deadline=None, max_examples=60)
TEXTS = st.text(max_size=12)
PLAIN = st.none() | st.booleans() | st.integers(-5, 200) | TEXTS
VALUES = st.recursive(PLAIN, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3))
NAMES = st.sampled_from(
    [
        "question_id",
        "idx",
        "id",
        "turns",
        "choices",
        "reference",
        "category",
        "Instruction",
        "prompt",
        "instruction",
        "output",
        "input",
        "history",
        "messages",
        "conversations",
        "system",
    ]
)
TURNS = st.lists(
    st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant", "system"]), "content": TEXTS}), max_size=4
)


@quick
@given(st.dictionaries(NAMES, VALUES | st.lists(TEXTS, max_size=3) | TURNS, max_size=5) | VALUES)
def test_any_record_is_a_question_or_is_refused_with_a_reason(record):
    try:
        found = question_of(record, "q.jsonl", 3, {"instruction": "prompt"})
    except BadRecord:
        return
    if isinstance(found, References):
        assert all(found.turns)
    else:
        assert isinstance(found, Question)
        assert found.name
        assert len(found.turns) == len(found.references) >= 1
        assert all(turn.strip() for turn in found.turns)


@quick
@given(st.text(alphabet="[]0123456789./ a\n【】５", max_size=40))
def test_a_grade_is_from_1_to_10_or_none(reply):
    grade = parse_grade(reply)
    assert grade is None or 1 <= grade <= 10


def differences(questions, seeds):
    cells = st.sampled_from([float("nan"), *(n / 8 for n in range(-16, 17))])
    return st.lists(cells, min_size=questions * seeds, max_size=questions * seeds).map(
        lambda values: np.array(values).reshape(questions, seeds)
    )


@quick
@given(differences(7, 3), st.permutations(range(7)))
def test_a_comparison_is_odd_in_its_sign_and_the_same_in_any_order(values, order):
    found, turned, other = compare(values), compare(-values), compare(values[list(order)])
    if found is None:
        assert turned is other is None
        return
    one, two = found.questions, turned.questions
    assert one.mean == -two.mean
    assert (one.low is None) == (two.low is None) == (one.n < 2)
    assert other.questions.mean == pytest.approx(one.mean)
    assert (other.questions.n, other.missing) == (one.n, found.missing)
    if one.low is not None:
        assert (one.low, one.high) == pytest.approx((-two.high, -two.low))
        assert one.p == pytest.approx(two.p)
        assert one.low <= one.mean <= one.high
        assert (one.p < 0.05) == (not one.low <= 0 <= one.high) or math.isclose(one.p, 0.05, rel_tol=1e-6)
    assert one.n + found.missing == 7


@quick
@given(
    st.lists(
        st.tuples(st.sampled_from([0.0, 0.5, 1.0]), st.integers(0, 400), st.integers(0, 400)), min_size=3, max_size=25
    )
)
def test_who_is_compared_with_whom_turns_the_length_controlled_rate_round(rows):
    wins, lengths, baseline = (list(column) for column in zip(*rows, strict=True))
    names = [str(n) for n in range(len(rows))]
    one = length_controlled(wins, lengths, baseline, names)
    two = length_controlled([1 - win for win in wins], baseline, lengths, names)
    assert (one is None) == (two is None)
    if one is not None:
        assert 0 <= one.low <= one.rate <= one.high <= 1
        assert one.rate == pytest.approx(1 - two.rate, abs=1e-6)
        assert one.slope == pytest.approx(two.slope, abs=1e-4)


def row(seed, tokens):
    said = (Message("user", "q"), Message("assistant", f"{tokens}"))
    return ArmRow(seed, None, "s", said, "q", f"{tokens}", "seed", tokens, None, "rule")


@quick
@given(st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40)), min_size=1, max_size=30), st.integers(0, 5))
def test_of_equal_tokens_arms_end_within_a_row_and_hold_the_first_seeds_of_one_order(sizes, run_seed):
    arms = {name: [row(f"s{n}", size[arm]) for n, size in enumerate(sizes)] for arm, name in enumerate("ab")}
    least = min(sum(r.n_tokens for r in rows) for rows in arms.values())
    cut = of_equal_tokens(arms, run_seed)
    kept = sorted(({r.seed_id for r in rows} for rows in cut.values()), key=len)
    assert kept[0] <= kept[1]
    for name, rows in cut.items():
        total = sum(r.n_tokens for r in rows)
        assert total <= least
        assert rows == [r for r in arms[name] if r in rows]
        left = [r.n_tokens for r in arms[name] if r not in rows]
        assert not left or total + max(left) > least


def test_a_tuned_model_is_named_by_all_that_decides_it():
    tune = {"epochs": 3, "learning_rate": 2e-5}
    name = model_id("rows", "sha256:x", "alpaca", tune, 0)
    assert name == model_id("rows", "sha256:x", "alpaca", dict(reversed(tune.items())), 0)
    others = [
        model_id("other", "sha256:x", "alpaca", tune, 0),
        model_id("rows", "sha256:y", "alpaca", tune, 0),
        model_id("rows", "sha256:x", "chat", tune, 0),
        model_id("rows", "sha256:x", "alpaca", {**tune, "epochs": 1}, 0),
        model_id("rows", "sha256:x", "alpaca", tune, 1),
    ]
    assert len({name, *others}) == 6
    assert content([row("a", 1), row("b", 2)]) != content([row("b", 2), row("a", 1)])
    assert content([row("a", 1)]) == content([row("z", 1)])
