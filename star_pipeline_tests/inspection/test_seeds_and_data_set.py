"""The queries on seeds, candidates and the final data set, against the Parquet files in plain Python."""

import json
from collections import Counter

import pytest

from star_pipeline.inspection.shipped import shipped_queries
from star_pipeline_tests.inspection.plainly import groups, known, same, values


def test_failures_are_every_call_score_and_verdict_that_did_not_come(ask, rows):
    expected = []
    for row in rows:
        place = (row["plan"]["shard"], row["plan"]["candidate_id"], row["pair"])
        if row["candidates"]["status"] == "failed":
            expected.append((*place, "generate", row["candidates"]["error_kind"], row["candidates"]["error"]))
        elif row["ifd_scores"]["status"] != "ok":
            expected.append(
                (*place, "score", row["ifd_scores"]["status"], f"not scored: {row['ifd_scores']['status']}")
            )
        if row["verdict"] in ("failed", "unparsed"):
            expected.append((*place, "judge", row["verdict"], row["judge_verdicts"]["error"]))
    names = ("shard", "candidate_id", "pair_id", "stage", "kind", "reason")
    assert sorted(tuple(row[name] for name in names) for row in ask("failures")) == sorted(expected)
    counted = Counter((stage, pair, kind) for _, _, pair, stage, kind, _ in expected)
    assert {(row["stage"], row["pair_id"], row["kind"]): row["times"] for row in ask("failure_kinds")} == counted
    assert {stage for _, _, _, stage, _, _ in expected} >= {"generate", "judge"}


def test_lineage_is_a_row_a_candidate_and_says_why(ask, rows, tables):
    entry = {row["seed_id"]: row for row in tables["seed_catalog"].to_dict("records")}
    left = set(tables["left_out_rows"]["candidate_id"])
    found = {row["candidate_id"]: row for row in ask("lineage")}
    assert len(found) == len(rows) == len(ask("lineage"))
    for row in rows:
        told, place = found[row["plan"]["candidate_id"]], entry[row["plan"]["seed_id"]]
        assert (told["source"], told["source_row"]) == (place["source"], place["source_row"])
        assert (told["seed_instruction"], told["response"]) == (
            row["seed"]["instruction"],
            row["candidates"]["response"],
        )
        assert (told["pi"], told["gap"]) == (row["composite_scores"]["pi"], row["ifd_scores"]["gap"])
        assert told["why"].startswith("selected" if row["composite_scores"]["selected"] else "rejected"), told
        assert told["left_out"] == ("min_pi" if row["plan"]["candidate_id"] in left else None)
    reasons = {row["why"] for row in found.values()}
    for start in (
        "its gap is not",
        "judged worse",
        "another candidate",
        "the verdict turned",
        "failed, timeout",
        "a: no reply",
    ):
        assert any(reason.startswith(f"rejected: {start}") for reason in reasons), start
    seed = ask("SELECT * FROM seed_lineage('second.json', 9)")
    assert [row["slot"] for row in seed] == [0, 1, 2, 3]
    assert seed == [row for row in ask("lineage") if (row["source"], row["source_row"]) == ("second.json", 9)]
    first = [(row["source"], row["source_row"], row["slot"]) for row in ask("why")]
    assert first == sorted(
        key for key in ((row["source"], row["source_row"], row["slot"]) for row in found.values()) if key[1] <= 10
    )


def test_exact_duplicates_are_rows_prompts_and_responses_that_are_equal(ask, tables):
    final = tables["star_dataset"].to_dict("records")
    expected = []
    keys = {
        "row": lambda row: json.dumps(list(row["messages"])),
        "prompt": lambda row: json.dumps(list(row["messages"])[:-1]),
        "response": lambda row: row["response"],
    }
    for kind, key in keys.items():
        for there in groups(final, key).values():
            if len(there) > 1:
                expected.append((kind, len(there), sorted(row["seed_id"] for row in there)))
    found = [(row["same"], row["rows"], row["seed_ids"]) for row in ask("exact_duplicates")]
    assert sorted(found) == sorted(expected)
    assert {kind for kind, _, _ in expected} == set(keys)
    with_history = {row["seed_id"] for row in final if len(row["messages"]) > 2}
    assert len(with_history) == 3  # the same last question after other turns is another prompt
    assert not with_history & {seed for kind, _, seeds in found if kind == "prompt" for seed in seeds}


def test_near_duplicates_are_the_groups_with_their_leader_first(ask, tables):
    domains = tables["task_domains"]
    sizes = domains["near_duplicate_of"].value_counts()
    found = ask("near_duplicates")
    assert {row["seed_id"]: row["near_duplicate_of"] for row in found} == {
        row.seed_id: row.near_duplicate_of for row in domains.itertuples() if sizes[row.near_duplicate_of] > 1
    }
    assert found
    final = tables["star_dataset"].set_index("seed_id")
    for row in found:
        assert row["instruction"] == final.loc[row["seed_id"], "instruction"]
        assert row["group_rows"] == sizes[row["near_duplicate_of"]]
    for _, there in groups(found, lambda row: row["near_duplicate_of"]).items():
        assert [row["leads"] for row in there] == [True] + [False] * (len(there) - 1)


def test_left_out_rows_have_their_reason_and_what_they_were(ask, tables):
    final = tables["star_dataset"].set_index("seed_id")
    expected = tables["left_out_rows"].to_dict("records")
    for row in expected:
        row |= {
            name: final.loc[row["seed_id"], name] for name in ("source", "source_row", "pi", "pair_id", "instruction")
        }
    same(ask("left_out"), sorted(expected, key=lambda row: (row["source"], row["source_row"])))


def test_the_funnel_and_the_selections_are_counts_of_the_tables(ask, rows, tables):
    final = tables["star_dataset"]
    pi = [known(row["composite_scores"]["pi"]) or 0 for row in rows]
    assert [row["rows"] for row in ask("funnel")] == [
        len(rows),
        sum(row["candidates"]["status"] == "ok" for row in rows),
        sum(row["ifd_scores"]["status"] == "ok" for row in rows),
        sum(gap > 0 for gap in values(rows, "ifd_scores", "gap")),
        sum(value > 0 for value in pi),
        sum(row["composite_scores"]["selection"] == "best" for row in rows),
        int(tables["seed_catalog"]["live"].sum()),
        len(tables["left_out_rows"]),
        len(final),
    ]
    plan = {row["plan"]["candidate_id"]: row["plan"] for row in rows}
    counted = Counter()
    for row in final.to_dict("records"):
        origin = {"base": "base", "seed": "seed"}.get(plan[row["candidate_id"]]["origin"], "sampled")
        if row["pair_id"] == "seed":
            origin = "seed"
        elif plan[row["candidate_id"]]["slot"] == 0:
            origin = "reference"
        counted[origin, row["selection"], row["pair_id"]] += 1
    found = {(row["origin"], row["selection"], row["pair_id"]): row for row in ask("selections")}
    assert {key: row["rows"] for key, row in found.items()} == counted
    assert {key[0] for key in found} >= {"seed", "reference", "sampled"}
    assert sum(row["share"] for row in found.values()) == pytest.approx(1)


def test_every_query_gives_the_order_that_its_file_asks_for(ask):
    for name, query in shipped_queries().items():
        assert ask(name) == ask(query.sql), name
