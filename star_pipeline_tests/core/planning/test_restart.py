"""Which assets of a shard are made again, and why."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from star_pipeline.core.planning.restart import AssetState, Reason, ShardState, assets_to_make
from star_pipeline.defs.jobs import LOOP, PAID_FOR, PARENTS


def state(there=LOOP, numbers=None, **found):
    numbers = dict(enumerate_from_one(LOOP)) if numbers is None else numbers
    return ShardState({name: AssetState(name in there, numbers.get(name)) for name in LOOP}, found)


def enumerate_from_one(names):
    return [(name, number) for number, name in enumerate(names, start=1)]


def ask(*args, **named):
    return assets_to_make(LOOP, PARENTS, PAID_FOR, state(*args, **named))


def test_a_shard_that_is_done_needs_nothing():
    assert ask() == {}


def test_a_new_shard_is_made_whole():
    made = ask(there=(), numbers={})
    assert list(made) == list(LOOP)
    assert set(made.values()) == {Reason.MISSING}


@pytest.mark.parametrize("first", ["candidates", "ifd_scores", "judge_verdicts", "composite_scores", "memory_bank"])
def test_from_what_is_missing_all_that_is_made_of_it_follows(first):
    made = ask(there=set(LOOP) - {first})
    assert list(made) == list(LOOP[LOOP.index(first) :])
    assert made.pop(first) == Reason.MISSING
    assert set(made.values()) <= {Reason.OLDER}


def test_a_paid_plan_is_drawn_again_only_where_that_is_asked_for_or_nobody_has_paid():
    newer = dict(enumerate_from_one(LOOP)) | {"seed_shards": 99}
    assert "sampling_plan" not in ask(numbers=newer)
    for reason in (Reason.ASKED, Reason.OUTDATED_PLAN):
        made = ask(sampling_plan={reason})
        assert list(made) == list(LOOP[1:])
        assert made["sampling_plan"] == reason


def test_of_several_reasons_the_first_is_told():
    found = {Reason.MISFIT, Reason.ASKED, Reason.RETRIED}
    assert ask(judge_verdicts=found)["judge_verdicts"] == Reason.ASKED
    assert ask(there=set(LOOP) - {"judge_verdicts"}, judge_verdicts=found)["judge_verdicts"] == Reason.MISSING


def test_what_dagster_does_not_know_is_made():
    numbers = dict(enumerate_from_one(LOOP)) | {"memory_bank": None}
    assert ask(numbers=numbers) == {"memory_bank": Reason.UNKNOWN, "agent_pair_probabilities": Reason.OLDER}


@settings(deadline=None)
@given(
    st.sets(st.sampled_from(LOOP)),
    st.dictionaries(st.sampled_from(LOOP), st.integers(1, 9)),
    st.dictionaries(st.sampled_from(LOOP), st.sets(st.sampled_from(list(Reason)), min_size=1)),
)
def test_after_everything_asked_for_was_made_nothing_is_left_to_do(there, numbers, found):
    made = ask(there=there, numbers=numbers, **found)
    assert set(found) | (set(LOOP) - there) | (set(LOOP) - set(numbers)) <= set(made)
    for name in made:
        for child, parents in PARENTS.items():
            assert name not in parents or child in made or child in PAID_FOR
    later = numbers | {name: 10 + place for place, name in enumerate(made)}
    assert assets_to_make(LOOP, PARENTS, PAID_FOR, state(there=set(LOOP), numbers=later)) == {}
