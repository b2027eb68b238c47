"""The queries on the judge, against the Parquet files in plain Python."""

import itertools
import json
import math
from collections import Counter

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from star_pipeline.core.tables import JUDGE_VERDICTS
from star_pipeline.inspection.build import create_queries, create_tables
from star_pipeline_tests.core.equations.test_judging import REFERENCE, candidate, judge, prefers
from star_pipeline_tests.inspection.plainly import COMPARED, groups, rate, same


@pytest.fixture(scope="module")
def compared(rows, lake):
    """Comparisons with a verdict: who wrote both responses, with which model, and how long they are."""
    by_id = {row["plan"]["candidate_id"]: row for row in rows}
    models = {}
    for name in ("candidates", "judge_verdicts"):
        for path in (lake.root / "tables" / name).glob("*.parquet"):
            settings = json.loads(pq.read_schema(str(path)).metadata[b"config_settings"])
            models[name, path.stem] = {agent: one["model"] for agent, one in settings["agents"].items()}
    found = []
    for row in rows:
        if row["verdict"] not in COMPARED:
            continue
        verdict, shard = row["judge_verdicts"], row["plan"]["shard"]
        reference = by_id.get(verdict["base_candidate_id"])
        other = reference["plan"]["response_agent"] if reference else "seed"
        text = reference["candidates"]["response"] if reference else row["seed"]["response"]
        found.append(
            {
                "pair": row["pair"],
                "verdict": row["verdict"],
                "first": verdict["verdict_first"],
                "flipped": verdict["flipped"],
            }
            | {
                "length": len(row["candidates"]["response"]),
                "reference_length": len(text),
                "judge": verdict["judge_agent"],
            }
            | {
                "candidate_id": row["plan"]["candidate_id"],
                "judge_model": models["judge_verdicts", shard][verdict["judge_agent"]],
            }
            | {"model": models["candidates", shard].get(row["plan"]["response_agent"])}
            | {"reference_model": models["candidates", shard].get(other)}
        )
    assert any(row["reference_model"] is None for row in found)  # its generation failed: the seed's own response
    return found


def longer_won(rows):
    decided = [
        row for row in rows if row["verdict"] in ("better", "worse") and row["length"] != row["reference_length"]
    ]
    return len(decided), sum(
        (row["verdict"] == "better") == (row["length"] > row["reference_length"]) for row in decided
    )


def test_comparisons_know_both_sides(ask, compared):
    found = {row["candidate_id"]: row for row in ask("comparisons")}
    assert len(found) == len(compared) == len(ask("comparisons"))
    for row in compared:
        assert {
            name: found[row["candidate_id"]][name] for name in ("characters", "reference_characters", "judge_model")
        } == {
            "characters": row["length"],
            "reference_characters": row["reference_length"],
            "judge_model": row["judge_model"],
        }
        assert found[row["candidate_id"]]["response_model"] == row["model"]
        assert found[row["candidate_id"]]["reference_model"] == row["reference_model"]


def test_judge_and_position_bias_count_reversals_by_the_answer_they_favoured(ask, compared):
    def counted(rows, prefix):
        flips = [row for row in rows if row["flipped"]]
        first = sum(row["first"] == "better" for row in flips)
        flipped = dict(zip(("flip_rate", "flip_rate_low", "flip_rate_high"), rate(len(flips), len(rows)), strict=True))
        towards = {f"{prefix}towards_first": first, f"{prefix}towards_second": len(flips) - first}
        return {"judged": len(rows), "flipped": len(flips), **flipped, **towards}

    expected = []
    for pair, of_pair in groups(compared, lambda row: row["pair"]).items():
        decided, longer = longer_won(of_pair)
        won = dict(zip(("longer_won", "longer_won_low", "longer_won_high"), rate(longer, decided), strict=True))
        expected.append({"pair_id": pair, "decided": decided, **won, **counted(of_pair, "flips_")})
    same(ask("judge_bias"), sorted(expected, key=lambda row: (-row["flip_rate"], row["pair_id"])))
    whole = counted(compared, "")
    names = ("towards_first_rate", "towards_first_rate_low", "towards_first_rate_high")
    whole |= dict(zip(names, rate(whole["towards_first"], whole["flipped"]), strict=True))
    same(ask("position_bias"), [{"judge_agent": "j", **whole}])


def test_length_bias_by_ratio_by_pair_and_over_all(ask, compared):
    edges = [0.0, 0.5, 0.8, 1.25, 2.0, None]

    def ranges(rows):
        yield None, None, rows
        for low, high in itertools.pairwise(edges):
            inside = lambda row: low <= row["length"] / max(row["reference_length"], 1) < (high or math.inf)  # noqa: B023, E731
            yield low, high, [row for row in rows if inside(row)]

    expected = []
    for pair, of_pair in [("all pairs", compared), *sorted(groups(compared, lambda row: row["pair"]).items())]:
        for low, high, there in ranges(of_pair):
            if there:
                won, (decided, longer) = sum(row["verdict"] == "better" for row in there), longer_won(there)
                expected.append(
                    {"pair_id": pair, "ratio_low": low, "ratio_high": high, "compared": len(there), "won": won}
                    | dict(zip(("win_rate", "win_rate_low", "win_rate_high"), rate(won, len(there)), strict=True))
                    | {"decided": decided, "longer_won": longer, "longer_won_rate": rate(longer, decided)[0]}
                )
    same(ask("length_bias"), expected)


def test_self_preference_goes_by_the_model_behind_the_agents_name(ask, compared):
    def own(row):
        sides = (row["model"] == row["judge_model"], row["reference_model"] == row["judge_model"])
        return {(True, True): "both", (True, False): "candidate", (False, True): "reference"}.get(sides, "neither")

    expected = []
    for (agent, model, side), there in sorted(
        groups(compared, lambda row: (row["judge"], row["judge_model"], own(row))).items()
    ):
        won, lost = (sum(row["verdict"] == verdict for row in there) for verdict in ("better", "worse"))
        mine = {"candidate": won, "reference": lost}.get(side)
        names = ("own_win_rate", "own_win_rate_low", "own_win_rate_high")
        mine_rates = dict(zip(names, (None, None, None) if mine is None else rate(mine, len(there)), strict=True))
        expected.append(
            {"judge_agent": agent, "judge_model": model, "own": side, "compared": len(there), "won": won, "lost": lost}
            | {"tied": len(there) - won - lost, **mine_rates}
            | dict(zip(("win_rate", "win_rate_low", "win_rate_high"), rate(won, len(there)), strict=True))
        )
    same(ask("self_preference"), expected)
    assert {row["own"] for row in expected} == {
        "both",
        "candidate",
        "reference",
        "neither",
    }  # two configurations: two models


def test_verdicts_are_shares_of_all_rows_of_the_pair(ask, rows):
    expected = []
    for pair, of_pair in sorted(groups((row for row in rows if row["verdict"]), lambda row: row["pair"]).items()):
        said = Counter(row["verdict"] for row in of_pair)
        for verdict in sorted(said, key=lambda verdict: (-said[verdict], verdict)):
            shares = dict(zip(("share", "share_low", "share_high"), rate(said[verdict], len(of_pair)), strict=True))
            expected.append({"pair_id": pair, "verdict": verdict, "rows": said[verdict], **shares})
    same(ask("verdicts"), expected)


def test_the_opinions_of_several_judges_are_a_row_each_and_one_judges_is_its_verdict():
    one = judge(prefers("good"), [REFERENCE, candidate(1)])[0]
    several = judge(lambda asked: "[A]" if asked.agent == "k" else "[B]", [REFERENCE, candidate(2)], others=("k", "l"))[
        0
    ]
    with duckdb.connect() as database:
        create_tables(database)
        create_queries(database)
        rows = JUDGE_VERDICTS.to_arrow([*one, *several]).append_column("shard", pa.array(["000001-x"] * 2))
        database.register("given", rows)
        database.execute("INSERT INTO judge_verdicts BY NAME SELECT * FROM given")
        found = database.execute(
            "SELECT candidate_id, judge_agent, verdict, reply_first, attempts FROM judge_opinions ORDER BY ALL"
        ).fetchall()
        assert database.execute("SELECT sum(attempts) FROM judge_opinions").fetchone()[0] == sum(
            row.attempts for row in (*one, *several)
        )
    assert found == [
        ("c1", "j", "better", "[A]", 2),
        ("c2", "j", "inconsistent", "[B]", 2),
        ("c2", "k", "inconsistent", "[A]", 2),
        ("c2", "l", "inconsistent", "[B]", 2),
    ]
