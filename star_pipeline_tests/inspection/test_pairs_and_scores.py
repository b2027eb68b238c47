"""The queries on pairs, IFD and gap, against the Parquet files in plain Python."""

import math
from collections import Counter

import numpy as np
import pytest

from star_pipeline_tests.inspection.plainly import COMPARED, groups, known, mean_interval, rate, same, values, wilson


def test_the_leaderboard_counts_and_averages_what_the_tables_hold_with_intervals(ask, rows, tables):
    snapshots = tables["agent_pair_probabilities"]
    latest = snapshots[snapshots["shard"] == snapshots["shard"].max()].set_index("pair_id")["probability"]
    expected = []
    for pair, of_pair in groups(rows, lambda row: row["pair"]).items():
        said = Counter(row["verdict"] for row in of_pair)
        tied, compared = said["tie"] + said["inconsistent"], sum(said[verdict] for verdict in COMPARED)
        pi, pi_low, pi_high = mean_interval(values(of_pair, "composite_scores", "pi"))
        gap, gap_low, gap_high = mean_interval(values(of_pair, "ifd_scores", "gap"))
        chosen, made = sum(row["chosen"] for row in of_pair), len(of_pair)
        cost = math.fsum(
            [row["candidates"]["cost_usd"] for row in of_pair] + values(of_pair, "judge_verdicts", "cost_usd")
        )
        of_rates = dict(
            zip(("selected_rate", "selected_rate_low", "selected_rate_high"), rate(chosen, made), strict=True)
        )
        of_rates |= dict(
            zip(("win_rate", "win_rate_low", "win_rate_high"), rate(said["better"], compared), strict=True)
        )
        expected.append(
            {"pair_id": pair, "candidates": made, "selected": chosen, "tied": tied, "better": said["better"]}
            | {"failed": sum(row["candidates"]["status"] == "failed" for row in of_pair), "worse": said["worse"]}
            | {"mean_pi": pi, "mean_pi_low": pi_low, "mean_pi_high": pi_high, "cost_usd": cost, **of_rates}
            | {"mean_gap": gap, "mean_gap_low": gap_low, "mean_gap_high": gap_high, "probability": latest.get(pair)}
        )
    expected.sort(key=lambda row: (-row["mean_pi"], row["pair_id"]))
    same(ask("pair_leaderboard"), expected)
    assert any(row["failed"] for row in expected)
    assert any(row["candidates"]["status"] == "failed" and row["composite_scores"]["selected"] for row in rows)
    names = ("pair_id", "candidates", "failed", "selected")
    same(ask("winners"), [{name: row[name] for name in names} for row in expected])


def test_intervals_are_null_or_whole_at_their_ends(ask):
    cases = [(0, 0), (0, 1), (1, 1), (0, 7), (7, 7), (3, 10), (199, 400), (1, 70_000)]
    for wins, of in cases:
        [row] = ask(f"SELECT wilson_low({wins}, {of}) AS low, wilson_high({wins}, {of}) AS high")
        low, high = wilson(wins, of)
        same([row], [{"low": low, "high": high}])
        assert wins or not of or row["low"] == 0
        assert wins < of or not of or row["high"] == 1
    [row] = ask(
        "SELECT mean_low(x) AS one, (SELECT mean_low(y) FROM (VALUES (NULL::DOUBLE)) AS t (y)) AS none FROM (VALUES (2.5)) AS t (x)"
    )
    assert row == {"one": None, "none": None}


def test_pair_domains_tell_the_best_pair_of_a_domain_only_where_there_are_enough_rows(ask, rows, tables):
    domain_of = tables["task_domains"].set_index("seed_id")["domain"].to_dict()
    of_domain = groups(
        (row for row in rows if row["plan"]["seed_id"] in domain_of), lambda row: domain_of[row["plan"]["seed_id"]]
    )
    expected = []
    for domain, there in sorted(of_domain.items()):
        pairs = []
        for pair, of_pair in groups(there, lambda row: row["pair"]).items():
            pi, low, high = mean_interval(values(of_pair, "composite_scores", "pi"))
            compared = [row for row in of_pair if row["verdict"] in COMPARED]
            wins = sum(row["verdict"] == "better" for row in compared)
            won = dict(zip(("win_rate", "win_rate_low", "win_rate_high"), rate(wins, len(compared)), strict=True))
            pairs.append(
                {
                    "domain": domain,
                    "pair_id": pair,
                    "candidates": len(of_pair),
                    "selected": sum(row["chosen"] for row in of_pair),
                }
                | {
                    "mean_pi": pi,
                    "mean_pi_low": low,
                    "mean_pi_high": high,
                    "compared": len(compared),
                    "wins": wins,
                    **won,
                }
                | {"too_few": len(values(of_pair, "composite_scores", "pi")) < 20}
            )
        pairs.sort(key=lambda row: (row["too_few"], -row["mean_pi"], row["pair_id"]))
        enough = [row for row in pairs if not row["too_few"]]
        for place, row in enumerate(pairs, 1):
            row["place"] = None if row["too_few"] else place
            others = [other["mean_pi_high"] for other in enough if other is not row]
            row["ahead"] = place == 1 and not row["too_few"] and bool(others) and row["mean_pi_low"] > max(others)
        expected += pairs
    same(ask("pair_domains"), expected)
    assert {row["too_few"] for row in expected} == {True, False}
    best = {row["domain"]: row["pair_id"] for row in expected if row["place"] == 1}
    assert [(row["domain"], row["best_pair"]) for row in ask("domains")] == [
        (d, best.get(d)) for d in sorted(of_domain)
    ]


def test_domains_have_their_rows_means_and_an_example(ask, rows, tables):
    score_of = {row["plan"]["candidate_id"]: row["composite_scores"] for row in rows}
    final = tables["star_dataset"].set_index("seed_id")
    expected = []
    for domain, there in tables["task_domains"].groupby("domain"):
        scores = [score_of[candidate] for candidate in there["candidate_id"]]
        pi, low, high = mean_interval([known(score["pi"]) or 0.0 for score in scores if known(score["pi"]) is not None])
        best = min(
            scores,
            key=lambda score: (-(known(score["pi"]) if known(score["pi"]) is not None else -1), score["seed_id"]),
        )
        pairs = Counter(final.loc[seed, "pair_id"] for seed in there["seed_id"])
        expected.append(
            {
                "domain": domain,
                "domain_name": there["domain_name"].iloc[0],
                "rows": len(there),
                "in_data_set": len(there),
            }
            | {
                "mean_pi": pi,
                "mean_pi_low": low,
                "mean_pi_high": high,
                "example": final.loc[best["seed_id"], "instruction"],
            }
            | {"near_duplicates": int((there["near_duplicate_of"] != there["seed_id"]).sum())}
            | {"most_selected_pair": min(pairs, key=lambda pair: (-pairs[pair], pair))}
        )
    same(ask("domains"), expected)
    assert len(expected) > 1


def test_probabilities_are_those_of_the_snapshots(ask, tables):
    snapshots = tables["agent_pair_probabilities"]
    expected = [
        {**row, "shard_number": int(row["shard"][:6]), "change": row["probability"] - row["probability_before"]}
        for row in snapshots.sort_values(["shard", "probability", "pair_id"], ascending=[True, False, True]).to_dict(
            "records"
        )
    ]
    same(ask("probability_history"), expected)
    pivoted = {
        (row["shard"], pair): p
        for row in ask("probabilities")
        for pair, p in row.items()
        if pair != "shard" and p is not None
    }
    assert pivoted == {(row["shard"], row["pair_id"]): pytest.approx(row["probability"], abs=5e-5) for row in expected}


@pytest.mark.parametrize(
    ("query", "model", "column"),
    [("gap_by_pair", None, "gap"), ("ifd_by_pair", "small", "ifd_small"), ("ifd_by_pair", "large", "ifd_large")],
)
def test_distributions_have_the_quantiles_of_numpy(ask, rows, query, model, column):
    short, over = ("gap", 0) if model is None else ("ifd", 1)
    rated = "positive" if model is None else "above_1"
    expected = []
    for pair, of_pair in groups(rows, lambda row: row["pair"]).items():
        scored = values(of_pair, "ifd_scores", column)
        mean, low, high = mean_interval(scored)
        p05, p25, median, p75, p95 = (float(q) for q in np.quantile(scored, (0.05, 0.25, 0.5, 0.75, 0.95)))
        beyond = sum(value > over for value in scored)
        names = (f"{rated}_rate", f"{rated}_rate_low", f"{rated}_rate_high")
        expected.append(
            {
                "pair_id": pair,
                "scored": len(scored),
                "p05": p05,
                "p25": p25,
                f"median_{short}": median,
                "p75": p75,
                "p95": p95,
            }
            | {f"mean_{short}": mean, f"mean_{short}_low": low, f"mean_{short}_high": high, rated: beyond}
            | {
                "least": min(scored),
                "greatest": max(scored),
                **dict(zip(names, rate(beyond, len(scored)), strict=True)),
            }
        )
    expected.sort(
        key=(lambda row: (-row["median_gap"], row["pair_id"])) if model is None else (lambda row: row["pair_id"])
    )
    same([row for row in ask(query) if model is None or row["model"] == model], expected)


@pytest.mark.parametrize("kind", ["gap", "ifd"])
def test_histograms_hold_every_scored_candidate_once_in_common_bins(ask, rows, kind):
    columns = {"small": "ifd_small", "large": "ifd_large"} if kind == "ifd" else {None: "gap"}
    everything = [value for column in columns.values() for value in values(rows, "ifd_scores", column)]
    low, high = np.quantile(everything, (0.005, 0.995))
    edges = np.linspace(low, high, 41)
    assert min(everything) < low < high < max(everything)
    found = ask(f"{kind}_histogram")
    for model, column in columns.items():
        for pair, of_pair in groups(rows, lambda row: row["pair"]).items():
            bins = [row for row in found if row["pair_id"] == pair and row.get("model") == model]
            assert [row["bin_low"] for row in bins] == pytest.approx(list(edges[:-1]))
            assert [row["bin_high"] for row in bins] == pytest.approx(list(edges[1:]))
            counted, _ = np.histogram(np.clip(values(of_pair, "ifd_scores", column), low, high), edges)
            assert [row["rows"] for row in bins] == list(counted)
    assert sum(row["rows"] for row in found) == len(everything)
