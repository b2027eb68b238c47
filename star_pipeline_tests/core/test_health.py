"""Lines of health on hand-made tables whose figures are known, and on judges and pairs that are what they are said to be."""

import itertools
import json
import math
import random

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from star_pipeline.core.health.examination import RULES, SIGNATURES, findings, health
from star_pipeline.core.health.judge import agreement
from star_pipeline.core.health.lines import in_words, too_few
from star_pipeline.core.rates import wilson

TEXT, NUMBER, TRUTH = pa.string(), pa.float64(), pa.bool_()
COLUMNS = {
    **dict.fromkeys(
        ("seed_id", "pair_id", "instruction_agent", "response_agent", "origin", "status", "error_kind"), TEXT
    ),
    **dict.fromkeys(("scored", "verdict", "verdict_first", "verdict_swapped"), TEXT),
    **dict.fromkeys(("characters", "reference_characters", "p_better", "tokens", "gap", "pi"), NUMBER),
    **dict.fromkeys(("rewritten", "selected", "best"), TRUTH),
}
PLAIN = {
    "seed_id": "s", "pair_id": "a+b", "instruction_agent": "a", "response_agent": "b", "origin": "explore", "status": "ok",
    "rewritten": True, "scored": "ok", "tokens": 10, "gap": 0.1, "pi": 0.1, "selected": False, "best": False,
}  # fmt: skip  # read as a table


def examined(rows, moves=(), published=None):
    """signature -> line, of rows that differ from PLAIN only as given."""
    full = [dict.fromkeys(COLUMNS) | PLAIN | row for row in rows]
    table = pa.Table.from_pylist(full, schema=pa.schema(list(COLUMNS.items())))
    return {line.signature: line for line in health(table, list(moves), published or {})}


def compared(number, first, swapped):
    """A comparison by the candidate's fate in either order; both seeds and candidates differ."""
    verdict = first if first == swapped else "tie" if "tie" in (first, swapped) else "inconsistent"
    return {"seed_id": f"s{number}", "verdict": verdict, "verdict_first": first, "verdict_swapped": swapped}


def judged(chances, lean, informed, count):
    """Comparisons by a judge that sees who is better in a share ``informed`` of them, and else says the first with chance ``lean``."""
    rows = []
    for number in range(count):
        if chances.random() < informed:
            fate = chances.choice(("better", "worse"))
            rows.append(compared(number, fate, fate))
        else:
            first = "better" if chances.random() < lean else "worse"
            swapped = "worse" if chances.random() < lean else "better"
            rows.append(compared(number, first, swapped))
    return rows


def test_every_signature_has_its_line_and_its_check_and_none_blocks():
    for lines in (examined([]), examined([PLAIN])):
        assert list(lines) == [signature.name for signature in SIGNATURES]
        assert {line.verdict for line in lines.values()} == {"fine"}
    assert all(too_few(line) for line in lines.values() if line.signature != "concentration")
    assert [found.rule for found in findings(list(lines.values()))] == list(RULES.values())
    assert not any(rule.blocks for rule in RULES.values())


def test_reversals_are_counted_of_what_was_decided_in_both_orders():
    rows = [compared(n, "better", "worse") for n in range(9)] + [compared(9 + n, "worse", "better") for n in range(4)]
    rows += [compared(20 + n, "better", "better") for n in range(10)] + [compared(40, "tie", "worse")] * 2
    rows += [{"seed_id": "s50", "verdict": "unparsed", "verdict_first": "better"}] * 3
    lines = examined(rows)
    judge, position, unparsed, ties = (
        lines[name] for name in ("judge", "judge_position", "judge_unparsed", "judge_ties")
    )
    assert (judge.figure, judge.n, judge.verdict) == (13 / 23, 23, "doubtful")
    assert (judge.low, judge.high) == wilson(13, 23)
    assert (position.figure, position.n) == (9 / 13, 13)
    assert (unparsed.figure, unparsed.n) == (3 / 28, 28)
    assert (ties.figure, ties.n) == (2 / 25, 25)


@pytest.mark.parametrize(("near", "verdict"), [(18, "doubtful"), (15, "doubtful"), (14, "fine")])
def test_a_judge_whose_probabilities_are_all_next_to_a_half_is_doubtful(near, verdict):
    values = [0.451, 0.549, *[0.5] * (near - 2), *[0.449, 0.551, 0.9, 0.1, 0.7, 1.0][: 20 - near]]
    rows = [{"seed_id": f"s{n}", "verdict": "better", "p_better": p} for n, p in enumerate(values)]
    line = examined(rows)["judge_margin"]
    assert (line.figure, line.n, line.verdict) == (near / 20, 20, verdict)


@given(st.integers(0, 10_000), st.floats(0.0, 1.0))
@settings(max_examples=25, deadline=None)
def test_a_judge_by_position_alone_is_never_fine(seed, lean):
    assert examined(judged(random.Random(seed), lean, 0.0, 150))["judge"].verdict != "fine"


@pytest.mark.parametrize("lean", [0.5, 0.7, 0.9, 1.0])
def test_a_judge_by_position_alone_is_unfit_where_there_are_rows_enough_and_never_by_chance_of_few(lean):
    for seed in range(5):
        assert examined(judged(random.Random(seed), lean, 0.0, 400))["judge"].verdict == "unfit"
        assert too_few(examined(judged(random.Random(seed), lean, 0.0, 9))["judge"])


@given(st.integers(0, 10_000), st.floats(0.0, 1.0), st.floats(0.6, 1.0), st.integers(0, 200))
@settings(max_examples=40, deadline=None)
def test_a_judge_that_mostly_sees_who_is_better_is_never_unfit(seed, lean, informed, count):
    lines = examined(judged(random.Random(seed), lean, informed, count))
    assert "unfit" not in {line.verdict for line in lines.values()}
    if informed == 1:
        assert lines["judge"].verdict == "fine"


@given(st.floats(0.0, 1.0), st.floats(0.0, 1.0))
def test_agreement_is_the_share_that_content_decides_whatever_the_lean(informed, lean):
    totals = [[1.0], [(1 - informed) * lean**2], [(1 - informed) * (1 - lean) ** 2]]
    assert agreement(np.array(totals))[0] == pytest.approx(informed, abs=1e-9)


def test_a_judge_that_follows_length_is_doubtful_whichever_way():
    for longer in ("better", "worse"):
        other = "worse" if longer == "better" else "better"
        rows = [
            compared(n, *[longer if n % 2 else other] * 2) | {"characters": 5 + n % 2 * 9, "reference_characters": 10}
            for n in range(30)
        ]
        rows.append(compared(99, "better", "better") | {"characters": 10, "reference_characters": 10})
        line = examined(rows)["judge_length"]
        assert (line.figure, line.n, line.verdict) == (1.0 if longer == "better" else 0.0, 30, "doubtful")
        assert ("longer" if longer == "better" else "shorter") in line.meaning


@pytest.mark.parametrize(
    ("positive", "verdict"), [(0, "unfit"), (20, "doubtful"), (60, "fine"), (160, "fine"), (198, "doubtful")]
)
def test_gaps_of_one_sign_are_doubtful_and_none_positive_is_unfit(positive, verdict):
    line = examined([{"gap": 0.1 if n < positive else -0.1} for n in range(200)] + [{"gap": None}] * 50)["gap"]
    assert (line.figure, line.n, line.verdict) == (positive / 200, 200, verdict)


def test_candidates_without_a_score_count_but_not_those_that_are_too_short_on_purpose():
    rows = (
        [{"scored": "not_finite", "gap": None}] * 12
        + [{"scored": "ok"}] * 18
        + [{"scored": "too_short", "gap": None}] * 30
    )
    line = examined([*rows, {"status": "failed", "scored": "no_candidate", "gap": None}])["scores"]
    assert (line.figure, line.n, line.verdict) == (0.4, 30, "doubtful")


def test_selection_by_length_is_found_in_both_directions_and_chance_is_not():
    chances = random.Random(5)
    for choose, sign in ((min, -1), (max, 1), (lambda places, key: chances.choice(list(places)), 0)):
        rows, same, opposite = [], 0, 0
        for seed in range(60):
            tokens = [chances.randint(3, 60) for _ in range(4)]
            chosen = choose(range(4), key=tokens.__getitem__)
            same += sum(tokens[chosen] > other for other in tokens)
            opposite += sum(tokens[chosen] < other for other in tokens)
            rows += [
                {"seed_id": f"s{seed}", "tokens": t, "selected": n == chosen, "best": n == chosen}
                for n, t in enumerate(tokens)
            ]
        line = examined(rows)["length"]
        assert line.figure == pytest.approx((same - opposite) / (same + opposite))
        assert line.verdict == ("unfit" if sign else "fine")
        assert not sign or ("longer" if sign > 0 else "shorter") in line.meaning


def test_memory_is_held_against_explored_draws_of_the_same_seed():
    chances, rows, differences = random.Random(2), [], []
    for seed in range(50):
        memory, explored = [chances.random() * 0.3], [chances.random() * 0.5, chances.random() * 0.5]
        differences.append(memory[0] - sum(explored) / 2)
        rows += [{"seed_id": f"s{seed}", "origin": "memory", "pi": pi} for pi in memory]
        rows += [{"seed_id": f"s{seed}", "origin": "explore", "pi": pi} for pi in explored]
    rows += [{"seed_id": f"t{n}", "pi": 0.9} for n in range(50)]  # nothing from memory: tells nothing
    rows.append({"seed_id": "s0", "origin": "memory", "pi": 0.7, "selected": None})  # not scored yet
    line = examined(rows)["memory"]
    assert (line.figure, line.n, line.verdict) == (pytest.approx(np.mean(differences)), 50, "doubtful")
    half = 1.96 * np.std(differences) / math.sqrt(50)
    assert (line.low, line.high) == pytest.approx((line.figure - half, line.figure + half), abs=0.01)


def test_a_draw_without_a_score_earns_nothing():
    rows = [{"seed_id": f"s{n}", "origin": "memory", "pi": None if n % 2 else 0.4} for n in range(30)]
    rows += [{"seed_id": f"s{n}", "pi": 0.1} for n in range(30)]
    assert examined(rows)["memory"].figure == pytest.approx(0.1)


def moves(**ends):
    """Two shards: half of the way each."""
    start = 1 / len(ends)
    for shard, (before, after) in (("000001-x", (0.0, 0.5)), ("000002-x", (0.5, 1.0))):
        for pair, end in ends.items():
            way = end - start
            yield {
                "shard": shard,
                "pair_id": pair,
                "probability_before": start + before * way,
                "probability": start + after * way,
            }


@pytest.mark.parametrize(
    ("lead", "end", "verdict"),
    [(0.2, 0.6, "fine"), (0.0, 0.6, "doubtful"), (-0.2, 0.6, "unfit"), (-0.2, 0.36, "fine")],
    ids=["ahead", "by chance", "behind", "hardly moved"],
)
def test_probabilities_need_evidence_once_they_have_moved(lead, end, verdict):
    chances, rows = random.Random(1), []
    drawn = {"a+a": [], "b+b": [], "c+c": []}
    for seed, (pair, values) in itertools.product(range(60), drawn.items()):
        pi = 0.3 + (lead if pair == "a+a" else 0.0 if pair == "b+b" else -0.2) + chances.uniform(-0.1, 0.1)
        values.append(pi)
        rows.append({"seed_id": f"s{seed}", "pair_id": pair, "pi": pi})
    line = examined(
        rows,
        moves(**{"a+a": end, "b+b": 0.9 - end, "c+c": 0.1} if end > 0.5 else {"a+a": end, "b+b": 0.33, "c+c": 0.31}),
    )["evolution"]
    assert line.figure == pytest.approx(np.mean(drawn["a+a"]) - np.mean(drawn["b+b"]))
    assert line.verdict == verdict
    assert line.low < line.figure < line.high


@pytest.mark.parametrize(("chance", "verdict"), [(0.6, "fine"), (0.97, "doubtful")])
def test_a_chance_of_being_the_best_asks_for_evidence_only_once_it_is_sure(chance, verdict):
    draws = random.Random(2)
    rows = [{"seed_id": f"s{n}", "pair_id": p, "pi": draws.random()} for n in range(60) for p in ("a+a", "b+b", "c+c")]
    rest = (1 - chance) / 2
    told = [{**row, "draws_total": 60} for row in moves(**{"a+a": chance, "b+b": rest, "c+c": rest})]
    line = examined(rows, told)["evolution"]
    assert line.low < 0 < line.high
    assert line.verdict == verdict


def test_equal_pairs_are_not_called_unfit_by_chance_however_far_one_of_them_rose():
    found = []
    for seed in range(20):
        chances = random.Random(seed)
        rows = [
            {"seed_id": f"s{n}", "pair_id": p, "pi": chances.random()}
            for n in range(100)
            for p in ("a+a", "b+b", "c+c")
        ]
        found.append(examined(rows, moves(**{"a+a": 0.6, "b+b": 0.2, "c+c": 0.2}))["evolution"].verdict)
    assert found.count("unfit") <= 1
    assert found.count("doubtful") >= 15


def test_one_pair_or_the_seeds_own_text_taking_most_is_doubtful_unless_there_is_no_choice():
    three, two = [{"pair_id": pair} for pair in ("a+b", "b+a", "seed")], [{"pair_id": pair} for pair in ("a+b", "seed")]
    own = examined(three, published={"seed": 80, "a+b": 20})["concentration"]
    assert (own.figure, own.n, own.verdict) == (0.8, 100, "doubtful")
    assert "as they were" in own.meaning
    assert "one pair's work" in examined(three, published={"seed": 20, "a+b": 80})["concentration"].meaning
    assert examined(three, published={"seed": 50, "a+b": 50})["concentration"].verdict == "fine"
    assert examined(two, published={"seed": 80, "a+b": 20})["concentration"].verdict == "fine"


def test_the_agents_that_fail_most_are_named_with_their_reasons():
    rows = []
    for n in range(20):  # agent a rewrites for two pairs of a seed: one call
        failed = {"rewritten": False, "status": "failed", "error_kind": "echo"} if n < 12 else {}
        rows += [{"seed_id": f"s{n}", "pair_id": pair, "response_agent": pair[-1], **failed} for pair in ("a+b", "a+c")]
        rows.append({"seed_id": f"s{n}", "pair_id": "keep+d", "instruction_agent": "keep", "response_agent": "d"})
        rows[-1] |= {"status": "failed", "error_kind": "cut_off"} if n < 3 else {}
    rows += [
        {"seed_id": "s0", "pair_id": "seed", "instruction_agent": "keep", "response_agent": "seed", "status": "failed"}
    ] * 9
    lines = examined(rows)
    assert (lines["rewrites"].figure, lines["rewrites"].n, lines["rewrites"].verdict) == (0.6, 20, "doubtful")
    assert "a: 12 echo" in lines["rewrites"].meaning
    assert (lines["responses"].figure, lines["responses"].n) == (0.15, 20)
    assert "d: 3 cut_off" in lines["responses"].meaning
    assert "take its pairs out" in in_words(lines["responses"])


def test_the_real_run_whose_judge_was_at_chance_is_told(shared_data):
    """72 candidates by real small models; their π is Eq. 5 to 7 of the recorded gaps and verdicts."""
    made = [json.loads(row) for row in shared_data("real_small/qwen_run.jsonl").read_text("utf-8").splitlines()]
    rows = []
    for row in made:
        rewriter, responder = ("keep", "seed") if row["pair"] == "seed" else row["pair"].split("+")
        kept = {
            name: row[name] for name in ("status", "error_kind", "gap", "verdict", "verdict_first", "verdict_swapped")
        }
        rows.append(
            {
                **kept,
                "seed_id": row["seed_instruction"],
                "pair_id": row["pair"],
                "instruction_agent": rewriter,
                "response_agent": responder,
                "origin": "seed" if row["pair"] == "seed" else "explore",
                "rewritten": row["instruction"] is not None or rewriter == "keep",
                "tokens": row["n_tokens_small"],
                "scored": "no_candidate" if row["gap"] is None else "ok",
            }
        )
    lines = examined(rows)
    assert (lines["judge"].figure, lines["judge"].n, lines["judge"].verdict) == (27 / 30, 30, "unfit")
    assert "carry no information" in lines["judge"].meaning
    assert (lines["judge_position"].figure, lines["judge_position"].verdict) == (5 / 27, "doubtful")
    assert "leans towards the second" in lines["judge_position"].meaning
    assert (lines["gap"].figure, lines["gap"].verdict) == (58 / 66, "doubtful")
    assert (lines["judge_unparsed"].figure, lines["judge_unparsed"].verdict) == (6 / 36, "doubtful")
    assert (lines["rewrites"].figure, lines["rewrites"].verdict) == (5 / 16, "doubtful")
    assert "qwen05: 5 echo" in lines["rewrites"].meaning
    assert [name for name, line in lines.items() if line.verdict == "unfit"] == ["judge"]
