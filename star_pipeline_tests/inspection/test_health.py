"""Every figure of health, off the Parquet files in plain Python; and the checks of the data set, which say the same before it is made."""

import itertools
import statistics
from collections import Counter

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from star_pipeline.core.health.examination import RULES, SIGNATURES
from star_pipeline.core.tables import CANDIDATES, JUDGE_VERDICTS, STAR_DATASET
from star_pipeline.inspection.build import health_before_publishing
from star_pipeline.instance import open_instance
from star_pipeline_tests.inspection.plainly import COMPARED, groups, rate


@pytest.fixture(scope="module")
def health(ask):
    return {row["signature"]: row for row in ask("health")}


def test_there_is_a_row_a_signature_the_worst_first(ask):
    found = ask("health")
    assert {row["signature"] for row in found} == {signature.name for signature in SIGNATURES}
    assert [row["signature"] for row in ask("health_lines")] == [signature.name for signature in SIGNATURES]
    order = [("unfit", "doubtful", "fine").index(row["verdict"]) for row in found]
    assert order == sorted(order)
    assert all(row["remedy"] for row in found if row["verdict"] != "fine")


def test_shares_are_those_of_the_files(health, rows, tables, lake):
    by_id = {row["plan"]["candidate_id"]: row for row in rows}
    verdicts = [row for row in rows if row["judge_verdicts"]]
    both = [
        row
        for row in verdicts
        if {row["judge_verdicts"]["verdict_first"], row["judge_verdicts"]["verdict_swapped"]} <= {"better", "worse"}
    ]
    turned = [row for row in both if row["verdict"] == "inconsistent"]
    heard = [row for row in verdicts if row["verdict"] in COMPARED]
    asked = [row for row in verdicts if row["verdict"] != "skipped"]
    longer = []
    for row in heard:
        reference = by_id.get(row["judge_verdicts"]["base_candidate_id"])
        other = len(reference["candidates"]["response"] if reference else row["seed"]["response"])
        ours = len(row["candidates"]["response"])
        if row["verdict"] in ("better", "worse") and ours != other:
            longer.append((row["verdict"] == "better") == (ours > other))
    gaps = [row["ifd_scores"]["gap"] for row in rows if row["ifd_scores"]["gap"] is not None]
    made = [row for row in rows if row["candidates"]["status"] == "ok"]
    final = Counter(pq.read_table(str(lake.table(STAR_DATASET))).column("pair_id").to_pylist())
    expected = {
        "judge": (len(turned), len(both)),
        "judge_position": (sum(row["judge_verdicts"]["verdict_first"] == "better" for row in turned), len(turned)),
        "judge_unparsed": (len(asked) - len(heard), len(asked)),
        "judge_ties": (sum(row["verdict"] == "tie" for row in heard), len(heard)),
        "judge_length": (sum(longer), len(longer)),
        "gap": (sum(gap > 0 for gap in gaps), len(gaps)),
        "scores": (sum(row["ifd_scores"]["status"] != "ok" for row in made), len(made)),
        "concentration": (max(final.values()), sum(final.values())),
    }
    rewrites = {
        (row["plan"]["instruction_agent"], row["seed"]["seed_id"]): row
        for row in rows
        if row["plan"]["instruction_agent"] != "keep"
    }
    by_agent = groups(
        [row for (_, _), row in rewrites.items() if row["pair"] != "seed"], lambda row: row["plan"]["instruction_agent"]
    )
    lost = [(sum(row["candidates"]["instruction"] is None for row in of), len(of)) for of in by_agent.values()]
    expected["rewrites"] = max(lost, key=lambda counts: rate(*counts)[1])
    answered = [row for row in rows if row["candidates"]["instruction"] is not None and row["pair"] != "seed"]
    by_agent = groups(answered, lambda row: row["plan"]["response_agent"])
    lost = [(sum(row["candidates"]["status"] == "failed" for row in of), len(of)) for of in by_agent.values()]
    expected["responses"] = max(lost, key=lambda counts: rate(*counts)[1])
    for name, (count, of) in expected.items():
        assert of > 0, name
        found = health[name]
        assert (found["figure"], found["low"], found["high"], found["n"]) == (
            *map(pytest.approx, rate(count, of)),
            of,
        ), name
    assert {health[name]["unit"] for name in expected} == {"share"}


def test_length_memory_and_evolution_are_those_of_the_files(health, rows, tables):
    of_seed = groups(rows, lambda row: row["seed"]["seed_id"])
    same = opposite = 0
    for of in of_seed.values():
        for best, other in itertools.product(of, of):
            ours, theirs = (row["ifd_scores"]["n_tokens_small"] for row in (best, other))
            if best["composite_scores"]["selection"] == "best" and other is not best and None not in (ours, theirs):
                same += ours > theirs
                opposite += ours < theirs
    assert same + opposite > 50
    assert health["length"]["figure"] == pytest.approx((same - opposite) / (same + opposite))

    def earned(some):
        return [row["composite_scores"]["pi"] or 0.0 for row in some]

    differences = []
    for of in of_seed.values():
        memory, explored = ([row for row in of if row["plan"]["origin"] == origin] for origin in ("memory", "explore"))
        if memory and explored:
            differences.append(statistics.mean(earned(memory)) - statistics.mean(earned(explored)))
    assert (health["memory"]["figure"], health["memory"]["n"]) == (
        pytest.approx(statistics.mean(differences)),
        len(differences),
    )

    snapshots = tables["agent_pair_probabilities"]
    last = snapshots[snapshots.shard == snapshots.shard.max()].set_index("pair_id").probability
    drawn = groups([row for row in rows if row["plan"]["origin"] in ("memory", "explore")], lambda row: row["pair"])
    means = {pair: statistics.mean(earned(of)) for pair, of in drawn.items()}
    top = last.idxmax()
    assert health["evolution"]["figure"] == pytest.approx(
        means[top] - max(mean for pair, mean in means.items() if pair != top)
    )
    for name in ("length", "memory", "evolution"):
        assert health[name]["low"] < health[name]["figure"] < health[name]["high"]


def test_the_data_sets_checks_say_the_same_and_none_of_them_blocks(lake, health):
    with open_instance(lake) as instance:
        records = {
            name: instance.event_log_storage.get_latest_asset_check_execution_by_key(
                [dg.AssetCheckKey(dg.AssetKey("star_dataset"), rule.name)]
            )
            for name, rule in RULES.items()
        }
    for name, found in records.items():
        [record] = found.values()
        said = record.event.dagster_event.event_specific_data
        assert (said.passed, said.blocking, said.severity) == (
            health[name]["verdict"] == "fine",
            False,
            dg.AssetCheckSeverity.WARN,
        )
        assert said.metadata["n"].value == health[name]["n"]


def test_tables_of_a_version_that_had_fewer_columns_have_their_health(lake, health, tmp_path):
    """Columns that came later are null: what is computed from others is as before."""
    older = type(lake).at(tmp_path)
    for path in (lake.root / "tables").glob("*/*.parquet"):
        table = pq.read_table(str(path))
        gone = {JUDGE_VERDICTS.name: ["verdict_first", "verdict_swapped"], CANDIDATES.name: ["error_kind"]}.get(
            path.parent.name, []
        )
        older_path = tmp_path / "tables" / path.parent.name / path.name
        older_path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(table.drop_columns(gone)), older_path)
    lines = {line.signature: line for line in health_before_publishing(older, lake.shards_of(CANDIDATES), {"seed": 1})}
    assert "too few to tell" in lines["judge"].meaning
    for name in ("gap", "memory", "rewrites", "judge_ties"):
        assert (lines[name].figure, lines[name].low, lines[name].high) == tuple(
            health[name][part] for part in ("figure", "low", "high")
        )
