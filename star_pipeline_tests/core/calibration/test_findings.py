"""From counts to verdicts: what is called fit, doubtful and unfit, and of how few things nothing is said."""

from dataclasses import replace

import pytest

from star_pipeline.core.calibration.agents import agent_findings, agent_replies
from star_pipeline.core.calibration.effort import cost_finding, time_finding
from star_pipeline.core.calibration.findings import (
    JUDGED_PAIRS,
    USEFUL,
    AgentReply,
    JudgedPair,
    ScoredText,
    at_least,
    at_most,
    within,
    worst,
)
from star_pipeline.core.calibration.identity import calibrated_settings
from star_pipeline.core.calibration.judge import judge_findings, judged_pairs
from star_pipeline.core.calibration.scoring import ModelKind, scoring_findings
from star_pipeline.core.calibration.words import interval, page, told, verdict, verdicts
from star_pipeline.core.intervals import share
from star_pipeline.core.records import KEEP, SEED, Candidate, JudgeVerdict, Pair, PlanRow
from star_pipeline_tests.conftest import CONFIG


def pair(kind, seed, first, swapped, outcome):
    flipped = {first, swapped} == {"better", "worse"}
    verdict = "inconsistent" if flipped else first if first == swapped else "tie"
    return JudgedPair(kind, str(seed), kind, verdict, first, swapped, flipped, outcome, None, None)


def right(kind, seed):
    return pair(kind, seed, "worse", "worse", "right")


def of(found):
    return {row.measure: row for row in found}


def test_a_level_inside_an_interval_is_doubtful():
    assert [at_least(share(n, 24), USEFUL) for n in (24, 22, 18, 8)] == ["fine", "fine", "doubtful", "unfit"]
    assert [at_most(share(n, 24), 1 / 3) for n in (0, 8, 20)] == ["fine", "doubtful", "unfit"]
    assert [within(share(n, 24), 0.25, 0.75) for n in (0, 12, 17, 24)] == ["unfit", "fine", "doubtful", "unfit"]
    assert (at_least(None, 0.5), at_most(None, 0.5), within(None, 0, 1)) == (None, None, None)
    assert (worst(["fine", None, "unfit"]), worst([None])) == ("unfit", "doubtful")


def test_a_judge_that_finds_the_seeds_own_response_is_fit():
    pairs = [right(kind, seed) for seed in range(24) for kind in ("foreign", "truncated")]
    pairs += [pair("same", seed, "tie", "tie", "right") for seed in range(24)]
    pairs += [pair("run", seed, "better", "better", "decided") for seed in range(24)]
    found = judge_findings("j", pairs)
    assert verdict(found) == "fine"
    assert (of(found)["accuracy"].figure, of(found)["accuracy"].n) == (1.0, 48)
    assert of(found)["position lean"].figure == 0.5
    assert all(row.remedy is None for row in found)


def test_a_judge_that_goes_by_the_place_is_unfit_whatever_it_says_of_the_rest():
    pairs = [
        pair(kind, seed, "better", "worse", outcome)
        for seed in range(24)
        for kind, outcome in (
            ("foreign", "undecided"),
            ("truncated", "undecided"),
            ("same", "wrong"),
            ("run", "undecided"),
        )
    ]
    found = of(judge_findings("j", pairs))
    unfit = {name for name, row in found.items() if row.verdict == "unfit"}
    assert unfit == {"accuracy, same", "decided", "flip rate", "position lean"}
    assert (found["flip rate"].figure, found["position lean"].figure, found["accuracy"].figure) == (1.0, 1.0, None)
    assert all(found[name].remedy for name in unfit)


def test_a_judge_that_chooses_either_by_chance_and_keeps_to_it_is_unfit_by_its_accuracy():
    pairs = [
        right(kind, seed) if (seed + n) % 2 else pair(kind, seed, "better", "better", "wrong")
        for seed in range(24)
        for n, kind in enumerate(("foreign", "truncated"))
    ]
    found = of(judge_findings("j", pairs))
    assert (found["accuracy"].verdict, found["flip rate"].verdict) == ("unfit", "fine")


def test_ties_on_probes_are_undecided_and_the_verdict_rests_on_what_the_run_asks():
    tied = [
        pair(kind, seed, "tie", "tie", "undecided")
        for seed in range(24)
        for kind in ("foreign", "truncated", "numbers")
    ]
    same = [pair("same", seed, "tie", "tie", "right") for seed in range(24)]
    decided = [pair("run", seed, "better", "better", "decided") for seed in range(24)]
    found = judge_findings("j", [*tied, *same, *decided])
    assert verdict(found) == "fine"
    assert of(found)["accuracy"].verdict is None
    assert "accuracy is not judged" in of(found)["accuracy"].meaning
    silent = [replace(row, verdict_first="tie", verdict_swapped="tie", outcome="undecided") for row in decided]
    assert of(judge_findings("j", [*tied, *same, *silent]))["decided"].verdict == "unfit"


def test_a_judge_whose_margin_decides_may_turn_its_letter_round():
    letters = [
        pair(kind, seed, "better", "worse", "right") for seed in range(24) for kind in ("foreign", "truncated", "run")
    ]
    decided = [replace(row, verdict="worse", outcome="decided" if row.kind == "run" else "right") for row in letters]
    found = of(judge_findings("j", decided))
    assert (found["flip rate"].figure, found["position lean"].verdict) == (0.0, None)
    assert "cancels" in found["position lean"].meaning
    assert verdict(list(found.values())) == "fine"


def test_a_closer_look_that_fails_is_doubtful_and_no_more():
    missed = [pair("numbers", seed, "better", "better", "wrong") for seed in range(24)]
    found = of(judge_findings("j", [*(right("foreign", seed) for seed in range(24)), *missed]))
    assert (found["accuracy, numbers"].verdict, found["accuracy"].verdict) == ("doubtful", "fine")


def test_what_the_judge_was_not_asked_is_no_comparison_and_what_it_did_not_say_is_lost():
    def row(name, verdict, base="r"):
        return JudgeVerdict(name, "s", base, None, verdict, None, None, False, None, None, None, None, 0, 0, 0, 0.0)

    rows = [row("a", "skipped"), row("b", "unparsed"), row("c", "worse"), row("d", "failed", None), row("e", "tie")]
    kinds = {"a": ("run", "k+a"), "b": ("foreign", "foreign"), "c": ("foreign", "foreign"), "e": ("same", "same")}
    found = judged_pairs(rows, {**kinds, "d": ("run", "k+a")})
    assert [(p.kind, p.outcome) for p in found] == [("foreign", "lost"), ("foreign", "right"), ("same", "right")]
    assert JUDGED_PAIRS.to_arrow(found[1:]).num_rows == 2


def texts(true, other, large=lambda value: value, length=lambda seed: 100 + seed):
    rows = []
    for seed in range(24):
        for kind, values in (("true", [true(seed)]), ("other", other(seed)), ("candidate", [true(seed) + 0.01])):
            rows += [
                ScoredText(kind, f"{kind}{seed}{n}", str(seed), length(seed), length(seed), v, large(v), v - large(v))
                for n, v in enumerate(values)
            ]
    return rows


NAMES, ALIKE = (
    {"small": "s", "large": "l"},
    dict.fromkeys(("small", "large"), ModelKind("gpt_neox", False, "<s> (BOS)")),
)


def test_models_that_know_which_instruction_is_whose_are_fit_and_one_that_does_not_is_not():
    knowing = texts(
        lambda s: 0.6 + (s * 7 % 24) / 100,
        lambda s: [0.9 + (s * 5 % 24) / 100] * 2,
        lambda v: v - 0.1 * (v * 1000 % 2 > 0.7),
    )
    found = of(scoring_findings(NAMES, knowing, {"small": [5.0, 6.0, 5.5], "large": [15.0, 14.0, 16.0]}, ALIKE))
    assert (found["AUC, small"].verdict, found["AUC, large"].verdict, found["correlation"].verdict) == (
        "fine",
        "fine",
        "fine",
    )
    assert (found["start token, small"].verdict, found["start token, large"].verdict) == ("fine", "unfit")
    blind = texts(
        lambda s: 1 + (s * 7 % 24) / 100, lambda s: [1 + (s * 7 % 24) / 100 + (-1) ** (s + n) / 200 for n in range(2)]
    )
    found = of(scoring_findings(NAMES, blind, {}, ALIKE))
    assert found["AUC, small"].verdict == found["AUC, large"].verdict == "unfit"


@pytest.mark.parametrize("sign", [1, -1])
def test_gaps_of_one_sign_and_gaps_that_follow_length_are_unfit(sign):
    rows = texts(lambda s: 1 + s / 24, lambda s: [], lambda v: v - sign * v / 2, length=lambda s: 10 + s)
    found = of(scoring_findings(NAMES, rows, {}, {}))
    assert (found["gaps above 0"].verdict, found["gap and length"].verdict) == ("unfit", "unfit")
    assert found["gap and length"].figure == pytest.approx(sign, abs=0.01)


def test_a_tuned_model_beside_a_base_model_and_two_families_are_doubtful():
    rows = texts(lambda s: 1 + s / 24, lambda s: [])
    for other in (ModelKind("gpt_neox", True, ""), ModelKind("qwen2", False, "")):
        found = of(scoring_findings(NAMES, rows, {}, {**ALIKE, "large": other}))["alike"]
        assert (found.verdict, found.figure) == ("doubtful", 0.0)
        assert found.remedy.startswith("their IFDs are on two scales")


def plan_row(seed, slot, pair_id):
    j, k = ("keep", "seed") if pair_id == "seed" else pair_id.split("+")
    return PlanRow(f"{seed}{slot}", seed, slot, pair_id, j, k, "base", None, "s", (), (), ())


def made(row, instruction, response, kind=None):
    status = "ok" if response else "failed"
    return Candidate(
        row.candidate_id,
        row.seed_id,
        row.slot,
        row.pair_id,
        instruction,
        response,
        status,
        kind,
        kind,
        1,
        0,
        0,
        0.0,
        0.0,
    )


def test_a_reply_that_pairs_share_counts_once_and_under_the_agent_that_gave_it():
    plan = [plan_row("s", n, name) for n, name in enumerate(("keep+a", "seed", "b+a", "b+c", "a+c"))]
    rows = [
        made(plan[0], "ask", "said"),
        made(plan[1], "ask", "own"),
        made(plan[2], None, None, "echo"),
        made(plan[3], None, None, "echo"),
        made(plan[4], "asked", None, "cut_off"),
    ]
    assert [(r.role, r.agent, r.kind) for r in agent_replies(plan, rows)] == [
        ("instruction agent", "b", "echo"),
        ("instruction agent", "a", "ok"),
        ("response agent", "a", "ok"),
        ("response agent", "c", "cut_off"),
    ]


def test_an_agent_that_only_echoes_is_unfit_and_warnings_are_at_most_doubtful():
    replies = [AgentReply("e", "instruction agent", str(n), "echo", None) for n in range(12)]
    replies += [AgentReply("w", "response agent", str(n), "ok", "script", True) for n in range(24)]
    lost, fine, warned = agent_findings(replies, [Pair("e", "w")])
    assert (lost.verdict, lost.meaning) == ("unfit", "12 of 12 rewrites are of no use: 12 echo")
    assert (fine.verdict, warned.verdict, warned.measure) == ("fine", "doubtful", "warned")


def test_an_agent_that_the_seeds_asked_nothing_of_is_said_not_to_be_measured():
    replies = [AgentReply("a", "response agent", "s", "ok", None)]
    found = agent_findings(replies, [Pair(KEEP, "a"), Pair("b", "a"), Pair(KEEP, "c"), SEED])
    assert [(row.subject, row.name, row.figure, row.verdict) for row in found] == [
        ("instruction agent", "b", None, None),
        ("response agent", "c", None, None),
        ("response agent", "a", 0.0, found[-1].verdict),
    ]
    assert "no rewrites; a larger --count does" in found[0].meaning


def test_cost_is_carried_forward_to_what_is_left_and_held_against_the_budget():
    found = cost_finding([0.01, 0.02, 0.03], 1000, None)
    assert (found.figure, found.verdict) == (pytest.approx(0.02), None)
    assert "0.020000 USD a seed, 20.0000 (" in found.meaning
    assert [cost_finding([0.02] * 3, 1000, left).verdict for left in (30.0, 10.0)] == ["fine", "unfit"]
    assert time_finding(30.0, [1.0, 1.0, 1.0], 60, fresh=True).figure == pytest.approx(10.0)
    assert time_finding(30.0, [0.0] * 3, 60, fresh=True).figure == pytest.approx(10.0)
    assert time_finding(30.0, [1.0], 60, fresh=False).figure is None


def test_the_words_say_each_verdict_and_a_run_hears_what_is_unfit():
    found = judge_findings("j|x", [pair("same", seed, "better", "worse", "wrong") for seed in range(24)])
    found = [replace(row, measured_at="2026-01-02T03:04", seeds=24, fingerprint="f", config_name="c") for row in found]
    assert verdicts(found) == {"judge": "unfit"}
    written = page(found)
    assert "**unfit**" in written
    assert r"j\|x" in written
    lines = told(found, "star-pipeline calibrate")
    assert len(lines) == 1
    assert lines[0].startswith(
        "calibration of 2026-01-02: judge, j|x: unfit (accuracy, same 0 (0 to 0.138), position lean 1 (1 to 1)): it "
    )
    assert told([], "star-pipeline calibrate --lake x")[0].endswith("before you pay: star-pipeline calibrate --lake x")
    assert interval(replace(found[0], figure=None)) == "–"


def test_a_calibration_is_of_agents_judge_scoring_and_prompts_and_of_nothing_else():
    def name(**changes):
        from star_pipeline.config import load_config

        return load_config({**CONFIG, **changes}).calibration_fingerprint

    same = [
        {"name": "other"},
        {"sampling": {"pairs_per_seed": 1, "from_memory": 0, "shard_size": 9}},
        {"evolution": {"rate": 0.5}},
        {"pairs": {"sampled": ["a+b", "b+a", "keep+a"], "base": ["keep+b"]}},
        {"agents": {**CONFIG["agents"], "unused": {"model": "m"}}},
        {"scoring": {**CONFIG["scoring"], "divisor": "max"}},
    ]
    others = [
        {"judge": {"agent": "a"}},
        {"scoring": {**CONFIG["scoring"], "template": "alpaca"}},
        {"agents": {**CONFIG["agents"], "a": {"model": "hosted_vllm/other"}}},
        {"pairs": {"sampled": ["keep+a"], "base": ["keep+b"]}},
    ]
    assert {name(**changes) for changes in same} == {name()}
    assert len({name(), *(name(**changes) for changes in others)}) == 5
    assert calibrated_settings({}) == calibrated_settings({})
