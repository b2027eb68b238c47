"""Preference pairs: which are sound, against a search of its own, and which of them is taken."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from star_pipeline.core.publishing.exports import NoRecord
from star_pipeline.core.publishing.preferences import PREFERENCE_SCORE_FIELDS, Side, best_pair, preference_records
from star_pipeline.core.records import Candidate, CompositeScore, JudgeVerdict, Seed
from star_pipeline_tests.core.publishing.test_exports import EARLIER, star_row


def side(name, verdict, instruction="i", response=None, pi=0.0):
    return Side(name, f"pair-{name}", instruction, response or f"answer {name}", verdict, pi, 0.1)


REFERENCE = side("r", "reference")


def test_the_selected_side_comes_first_then_better_over_worse_then_pi():
    worse, better, best = side("w", "worse"), side("b", "better", pi=0.2), side("c", "better", pi=0.9)
    assert best_pair([REFERENCE, worse, better, best], "b") == (better, worse)
    assert best_pair([REFERENCE, worse, better, best], "no such") == (best, worse)
    assert best_pair([REFERENCE, better, best], "no such") == (best, REFERENCE)
    assert best_pair([REFERENCE, worse], "r") == (REFERENCE, worse)
    also = replace(worse, candidate_id="v", pi=0.3)
    assert best_pair([REFERENCE, also, worse], "r") == (REFERENCE, worse)
    assert best_pair([REFERENCE, replace(worse, candidate_id="a"), worse], "r")[1].candidate_id == "a"


def test_a_rewritten_instruction_is_never_set_against_another_one():
    better, worse = side("b", "better", "rewritten"), side("w", "worse", "rewritten")
    assert best_pair([REFERENCE, better], "b") is NoRecord.OTHER_INSTRUCTION
    assert best_pair([REFERENCE, better, replace(worse, instruction="rewritten ")], "b") is NoRecord.OTHER_INSTRUCTION
    assert best_pair([REFERENCE, better, worse], "b") == (better, worse)


def test_why_a_seed_has_no_pair():
    assert best_pair([], "x") is NoRecord.NOT_JUDGED
    assert best_pair([REFERENCE], "x") is NoRecord.NOT_JUDGED
    assert best_pair([side("b", "better"), side("c", "better")], "b") is NoRecord.NOT_JUDGED
    same = side("b", "better", response=f"{REFERENCE.response}\n")
    assert best_pair([REFERENCE, same], "b") is NoRecord.SAME_TEXT


def test_what_the_final_data_set_holds_is_never_the_rejected_side():
    worse, better = side("w", "worse"), side("b", "better")
    assert best_pair([REFERENCE, better], "r", f"{REFERENCE.response} ") is NoRecord.REJECTS_SELECTED
    assert best_pair([REFERENCE, worse, better], "r", REFERENCE.response) == (REFERENCE, worse)
    assert best_pair([REFERENCE, worse, better], "w", worse.response) == (better, REFERENCE)


SIDES = st.lists(
    st.builds(
        Side,
        candidate_id=st.sampled_from("abcdef"),
        pair_id=st.just("p"),
        instruction=st.sampled_from(["i", "j"]),
        response=st.sampled_from(["x", "x ", "y", "z"]),
        verdict=st.sampled_from(["better", "worse", "reference"]),
        pi=st.none() | st.sampled_from([0.0, 0.2, 0.7]),
        gap=st.none(),
    ),
    max_size=6,
    unique_by=lambda one: one.candidate_id,
)


@given(SIDES, st.sampled_from("abcdef"))
def test_a_pair_is_sound_whenever_there_is_a_sound_one_and_none_is_before_it(sides, selected):
    above = {("better", "worse"), ("better", "reference"), ("reference", "worse")}
    sound = [
        (high, low)
        for high in sides
        for low in sides
        if (high.verdict, low.verdict) in above
        and high.instruction == low.instruction
        and high.response.split() != low.response.split()
    ]
    found = best_pair(sides, selected)
    assert isinstance(found, NoRecord) == (not sound)
    if sound:
        assert found in sound
        high, low = found
        if any(one.candidate_id == selected for one, _ in sound):
            assert high.candidate_id == selected
        rivals = [pair for pair in sound if (pair[0].candidate_id == selected) == (high.candidate_id == selected)]
        if any({one.verdict, other.verdict} == {"better", "worse"} for one, other in rivals):
            assert (high.verdict, low.verdict) == ("better", "worse")
            rivals = [pair for pair in rivals if (pair[0].verdict, pair[1].verdict) == ("better", "worse")]
        assert (high.pi or 0) == max(one.pi or 0 for one, _ in rivals)
        assert best_pair(sides[::-1], selected) == found


@given(SIDES, st.sampled_from("abcdef"), st.sampled_from(["x", "y", "z", "w"]))
def test_what_the_data_set_holds_is_as_if_nobody_had_put_it_lower(sides, selected, held):
    pair, without = best_pair(sides, selected, held), best_pair(sides, selected)
    if isinstance(without, NoRecord):
        assert pair is without
    elif isinstance(pair, NoRecord):
        assert without[1].response.split() == held.split()
    else:
        assert pair[1].response.split() != held.split()
        assert pair == without or without[1].response.split() == held.split()


def candidate(name, pair_id, response, instruction="Why?", slot=1, status="ok"):
    return Candidate(name, "s1", slot, pair_id, instruction, response, status, None, None, 1, 1, 1, 0.0, 0.0)


def verdict(name, said, base):
    return JudgeVerdict(name, "s1", base, None, said, said, said, False, None, None, None, None, 2, 1, 1, 0.0)


def score(name, pi):
    return CompositeScore(name, "s1", 0, "p", 0.25, pi, pi, pi, 1, False, None)


SEED = Seed("s1", "x.json", 1, "Be brief.", EARLIER, "Why?", "the seed's own")


def test_a_record_is_what_was_said_before_and_the_two_responses():
    candidates = [
        candidate("r", "keep+b", "base", slot=0),
        candidate("c", "keep+a", "good"),
        candidate("t", "x+y", "so-so"),
    ]
    verdicts = [verdict("c", "better", "r"), verdict("t", "tie", "r")]
    row = star_row("Be brief.", EARLIER, candidate_id="c")
    tables = [row], [SEED], candidates, verdicts, [score("c", 0.9), score("r", 0.1)]
    [record] = preference_records(*tables)
    assert record == {
        "prompt": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Hello"},
            {"role": "assistant", "content": "Hi"},
            {"role": "user", "content": "Why?"},
        ],
        "chosen": [{"role": "assistant", "content": "good"}],
        "rejected": [{"role": "assistant", "content": "base"}],
        "margin": 1.0,
    }
    [scored] = preference_records(*tables, with_scores=True)
    assert {name: scored[name] for name in record} == record
    assert [name for name in scored if name not in record] == [field.name for field in PREFERENCE_SCORE_FIELDS]
    assert (scored["chosen_pi"], scored["rejected_pi"], scored["chosen_gap"]) == (0.9, 0.1, 0.25)
    assert (scored["chosen_pair_id"], scored["rejected_pair_id"]) == ("keep+a", "keep+b")
    assert (scored["chosen_verdict"], scored["rejected_verdict"]) == ("better", "reference")


def test_the_prompt_is_the_instruction_that_both_answer_also_where_another_one_was_selected():
    texts = {"b": ("Why not?", "better"), "w": ("Why not?", "worse"), "c": ("Why so?", "best")}
    made = [candidate(name, "x+y", said, instruction) for name, (instruction, said) in texts.items()]
    candidates = [candidate("r", "keep+b", "base", slot=0), *made]
    verdicts = [verdict("b", "better", "r"), verdict("w", "worse", "r"), verdict("c", "better", "r")]
    row = star_row(instruction="Why so?", response="best", candidate_id="c")
    [record] = preference_records([row], [SEED], candidates, verdicts, [])
    assert record["prompt"][-1] == {"role": "user", "content": "Why not?"}
    assert [record[name][0]["content"] for name in ("chosen", "rejected")] == ["better", "worse"]


def test_where_the_reference_failed_the_seeds_own_text_takes_part():
    failed = candidate("r", "keep+b", None, slot=0, status="failed")
    candidates, scores = [failed, candidate("c", "keep+a", "good")], [score("c", 0.9)]
    row = star_row(candidate_id="c")
    [record] = preference_records([row], [SEED], candidates, [verdict("c", "better", None)], scores, with_scores=True)
    assert record["rejected"] == [{"role": "assistant", "content": "the seed's own"}]
    assert (record["rejected_pair_id"], record["rejected_pi"], record["rejected_verdict"]) == (
        "seed",
        None,
        "reference",
    )


def test_a_verdict_against_an_earlier_reference_does_not_count():
    candidates = [candidate("r", "keep+b", "base", slot=0), candidate("c", "keep+a", "good")]
    row = star_row(candidate_id="c")
    assert list(preference_records([row], [SEED], candidates, [verdict("c", "better", "old")], [])) == [
        NoRecord.NOT_JUDGED
    ]


def test_a_verdict_that_turned_round_with_the_order_makes_no_pair_unless_it_is_asked_for():
    candidates = [candidate("r", "keep+b", "base", slot=0), candidate("c", "keep+a", "good")]
    turned = replace(verdict("c", "better", "r"), flipped=True, margin=1.25)
    given = [star_row(candidate_id="c")], [SEED], candidates, [turned], []
    assert list(preference_records(*given)) == [NoRecord.NOT_JUDGED]
    [record] = preference_records(*given, with_reversed=True)
    assert record["margin"] == 1.25


def test_the_margin_is_in_the_judges_log_odds_where_it_gave_them_and_else_in_ranks():
    candidates = [candidate("r", "keep+b", "base", slot=0), candidate("c", "x+y", "good"), candidate("w", "x+y", "bad")]
    row = star_row(candidate_id="c")
    both = [verdict("c", "better", "r"), verdict("w", "worse", "r")]
    [record] = preference_records([row], [SEED], candidates, both, [])
    assert record["margin"] == 2.0
    told = [replace(both[0], margin=1.5), replace(both[1], margin=-0.75)]
    [record] = preference_records([row], [SEED], candidates, told, [])
    assert record["margin"] == 2.25


def test_a_candidate_that_is_barred_stands_on_no_side():
    candidates = [candidate("r", "keep+b", "base", slot=0), candidate("c", "x+y", "good"), candidate("w", "x+y", "bad")]
    given = (
        [star_row(candidate_id="c")],
        [SEED],
        candidates,
        [verdict("c", "better", "r"), verdict("w", "worse", "r")],
        [],
    )
    [record] = preference_records(*given, barred={"w"})
    assert (record["chosen"][0]["content"], record["rejected"][0]["content"]) == ("good", "base")
    assert list(preference_records(*given, barred={"w", "r"})) == [NoRecord.OVERLAP]
    assert list(preference_records(*given[:3], [], [], barred={"w", "r"})) == [NoRecord.NOT_JUDGED]
