"""Win rates and the length-controlled rate, on recorded verdicts, against statsmodels; grades against FastChat's own scores."""

import json

import numpy as np
import pytest

from star_pipeline.core.study.grades import parse_grade
from star_pipeline.core.study.records import StudyGrade, StudyWin
from star_pipeline.core.study.results import CONTROLLED, WIN_RATE, study_results
from star_pipeline.core.study.wins import length_controlled, win_of

sm = pytest.importorskip("statsmodels.api")
stats = pytest.importorskip("scipy.stats")


def won(arm, seed, question, win, length=100, length_baseline=100, category=None):
    verdict = {1.0: "better", 0.0: "worse", 0.5: "tie", None: "unparsed"}.get(win, "better")
    return StudyWin(
        "m", arm, seed, question, "seeds", "q.jsonl", category, verdict, None, None, False if win is False else win,
        length, length_baseline, None, None, None, "judge", 2, 0, 0, 0.0,
    )  # fmt: skip


def test_reversals_are_ties_and_what_has_no_verdict_counts_nowhere():
    assert [win_of(v) for v in ("better", "worse", "tie", "inconsistent")] == [1, 0, 0.5, 0.5]
    assert win_of("unparsed") is win_of("failed") is None
    rows = [won("star", 0, "a", 1.0), won("star", 0, "b", 0.5), won("star", 0, "c", None), won("star", 0, "d", 1.0)]
    found = {row.arm: row for row in study_results(["seeds", "star"], "seeds", wins=rows)}
    star = found["star"]
    assert (star.measure, star.figure, star.difference, star.n) == (WIN_RATE.name, 2.5 / 3, 1 / 3, 3)
    assert found["seeds"].figure == 0.5


def test_the_win_rate_and_its_interval_on_recorded_verdicts_are_scipys(shared_data):
    """GPT-3.5's and GPT-4's reviews in both orders: a reversal is a tie."""
    for judge in ("gpt3.5", "gpt4"):
        reviews = json.loads(shared_data(f"cherry/logs/vicuna_wrap_reviews_{judge}.json").read_text())["data"]
        rows, wins = [], []
        for number, review in enumerate(reviews):
            pairs = [json.loads(review["scores"]), json.loads(review["scores_reverse"])[::-1]]
            if any(pair == [-1, -1] for pair in pairs):
                continue
            fates = [(a > b) - (a < b) for a, b in pairs]
            both = 0.5 + 0.5 * (fates[0] if fates[0] == fates[1] else 0 if 0 not in fates else sum(fates) and 0)
            wins.append(both)
            lengths = len(review["Answer1"]), len(review["Answer2"])
            rows.append(won("cherry", 0, str(number), both, *lengths))
        found = {(r.measure, r.arm): r for r in study_results(["seeds", "cherry"], "seeds", wins=rows)}
        rate = found[WIN_RATE.name, "cherry"]
        paired = stats.ttest_1samp(wins, 0.5)
        interval = paired.confidence_interval(0.95)
        assert rate.figure == pytest.approx(np.mean(wins))
        assert (rate.low, rate.high) == pytest.approx((interval.low - 0.5, interval.high - 0.5))
        assert rate.p == pytest.approx(paired.pvalue)
        controlled = found[CONTROLLED.name, "cherry"]
        theirs = regressed(wins, [r.length for r in rows], [r.length_baseline for r in rows], range(len(rows)))
        assert controlled.figure == pytest.approx(theirs[0], abs=1e-7)
        assert (controlled.figure_low, controlled.figure_high) == pytest.approx(theirs[1:3], abs=1e-6)


def regressed(wins, lengths, baseline, groups):
    """(rate, low, high, p) by statsmodels: a binomial GLM with errors clustered by question."""
    delta = np.asarray(lengths, float) - np.asarray(baseline, float)
    x = sm.add_constant(np.tanh(delta / delta.std(ddof=1)))
    groups = np.unique(list(groups), return_inverse=True)[1]
    fit = sm.GLM(np.asarray(wins), x, family=sm.families.Binomial()).fit(
        cov_type="cluster", cov_kwds={"groups": groups, "use_correction": True, "df_correction": True}, use_t=True,
        tol=1e-14, maxiter=200,
    )  # fmt: skip
    low, high = fit.conf_int()[0]
    rate, low, high = (1 / (1 + np.exp(-value)) for value in (fit.params[0], low, high))
    return rate, low, high, fit.pvalues[0]


def test_the_length_controlled_rate_of_recorded_answers_is_statsmodels(shared_data):
    """LLMs against GPT-4 on AlpacaEval's instructions, with GPT-4's probabilities as wins."""
    lines = shared_data("recorded/alpaca_eval_recorded.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    checked = 0
    for model in list(records[0]["answers"])[::4]:
        asked = [r for r in records if model in r["answers"]]
        wins = [r["answers"][model]["win"] for r in asked]
        lengths = [len(r["answers"][model]["output"]) for r in asked]
        baseline = [len(r["reference"]) for r in asked]
        names = [r["instruction"] for r in asked]
        found = length_controlled(wins, lengths, baseline, names)
        rate, low, high, p = regressed(wins, lengths, baseline, names)
        assert (found.rate, found.low, found.high) == pytest.approx((rate, low, high), abs=1e-6), model
        assert found.p == pytest.approx(p, rel=1e-4, abs=1e-12)
        checked += 1
    assert checked == 4


def simulated(theta, slope, n=400, seeds=3, rng=None):
    rng = rng or np.random.default_rng(0)
    lengths = rng.normal(500, 200, (n, seeds)).clip(10).astype(int)
    baseline = np.repeat(rng.normal(300, 100, n).clip(10).astype(int)[:, None], seeds, 1)
    delta = (lengths - baseline).astype(float)
    odds = theta + slope * np.tanh(delta / delta.std(ddof=1))
    wins = (rng.random((n, seeds)) < 1 / (1 + np.exp(-odds))).astype(float)
    questions = np.repeat(np.arange(n), seeds)
    return wins.ravel(), lengths.ravel(), baseline.ravel(), questions


def test_an_advantage_that_is_all_length_goes_and_the_bootstrap_agrees():
    wins, lengths, baseline, questions = simulated(0.0, 2.0, rng=np.random.default_rng(1))
    assert wins.mean() > 0.65
    found = length_controlled(wins, lengths, baseline, questions)
    assert abs(found.rate - 0.5) < 0.08
    assert found.low < 0.5 < found.high
    assert (found.boot_low, found.boot_high) == pytest.approx((found.low, found.high), abs=0.01)
    assert (found.rate, found.low, found.high) == pytest.approx(
        regressed(wins, lengths, baseline, questions)[:3], abs=1e-7
    )


@pytest.mark.parametrize(
    ("wins", "lengths"),
    [
        ([1.0, 1.0, 1.0, 1.0], [10, 20, 30, 40]),  # nothing but wins
        ([0.0, 0.0, 1.0, 1.0], [10, 20, 300, 400]),  # lengths part them
        ([1.0, 0.0, 1.0, 0.0], [150, 150, 150, 150]),  # no length differs from another
        ([1.0, 0.0], [10, 20]),  # too few
    ],
)
def test_where_no_regression_fits_there_is_no_length_controlled_rate(wins, lengths):
    assert length_controlled(wins, lengths, [100] * len(wins), list("abcd")[: len(wins)]) is None


def grade(arm, question, turn, value, category="writing"):
    return StudyGrade(
        "m", arm, 0, question, turn, "mt.jsonl", category, value, None, None, "judge", 1, 0, 0, 0.0
    )  # fmt: skip


def test_grades_are_means_over_turns_by_category():
    rows = [grade("seeds", "a", 1, 4.0), grade("seeds", "a", 2, 6.0), grade("seeds", "b", 1, 3.0, "maths")]
    rows += [grade("star", "a", 1, 8.0), grade("star", "a", 2, 6.0), grade("star", "b", 1, 5.0, "maths")]
    rows += [grade("star", "c", 1, 9.0), grade("star", "c", 2, None)]
    found = {(r.part, r.arm): r for r in study_results(["seeds", "star"], "seeds", grades=rows)}
    assert [found[part, "seeds"].figure for part in ("writing", "maths", "all")] == [5, 3, 4]
    assert found["all", "star"].difference == 2
    assert found["writing", "star"].n == 1


@pytest.mark.parametrize(
    ("reply", "value"),
    [
        ("Good. Rating: [[7]]", 7),
        ("Rating: [[7.5]]", 7.5),
        ("Rating: [[8/10]]", 8),
        ("Rating: [6]", 6),
        ("**Rating: [[9]]**.", 9),
        ("评分：【【5】】", 5),
        ('The form is "[[5]]".\nIt is weak.\nRating: [[3]]', 3),
        ("<think>[[2]]</think>Rating: [[6]]", 6),
        ("Rating: [[0]]", None),
        ("Rating: [[11]]", None),
        ("Rating: [[5]] at first, then [[7]] on reflection.", None),
        ("Rating: 7", None),
        ("[[rating]]", None),
        ("", None),
    ],
)
def test_a_grade_is_read_or_there_is_none(reply, value):
    assert parse_grade(reply) == value


@pytest.mark.parametrize(
    "name", ["mtb_result_gpt-4_single_pr2906", "skycamp_gpt-4_single", "arena_hard_1k_gpt-4_single_bk"]
)
def test_the_grades_of_recorded_replies_are_those_that_fastchat_read(shared_data, name):
    lines = shared_data(f"fastchat/judgments/{name}.jsonl").read_text("utf-8").splitlines()
    read = [(parse_grade(row["judgment"]), row["score"]) for row in map(json.loads, lines)]
    assert read
    assert [pair for pair in read if pair[0] != pair[1] and (pair[0] is not None or pair[1] != -1)] == []
