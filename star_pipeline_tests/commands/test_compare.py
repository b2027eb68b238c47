"""``compare``: what it says of two lakes, against their tables read one by one."""

import csv
import io
import json
import shutil
from collections import Counter
from statistics import mean

import duckdb
import pytest

from star_pipeline.commands.compare import compare, print_comparison
from star_pipeline.core import tables
from star_pipeline.core.errors import ConfigError, LakeError
from star_pipeline_tests.commands.test_run import Lakeside, prefers_a
from star_pipeline_tests.conftest import say, seed_rows


@pytest.fixture(scope="module")
def sides(tmp_path_factory):
    """Two lakes: the second with one seed less, another rate and another judge from its second shard on."""
    folder = tmp_path_factory.mktemp("compare")
    made = []
    for name in ("one", "two"):
        (folder / name).mkdir()
        made.append(Lakeside(folder / name))
    one, two = made
    one.ease = two.ease = 2.0  # every gap is positive, so that the judge decides
    one.seeds(seed_rows(12))
    one.run(say)
    two.seeds(seed_rows(4))
    two.run(prefers_a)
    two.configure(name="greedy", evolution={"rate": 0.5}, judge={"agent": "b", "attempts": 3})
    two.seeds(seed_rows(7, offset=4), "more.json")
    two.run(prefers_a)
    return made


def names(sides):
    return [str(side.lake.root) for side in sides]


@pytest.fixture(scope="module")
def told(sides):
    return compare(names(sides))


def values(told, section):
    return {line.measure: line.values for line in told.lines if line.section == section}


def rows(side, spec):
    return [row for shard in side.lake.shards_of(spec) for row in side.lake.read_table(spec, shard)]


def test_settings_that_differ_are_told_also_where_they_changed_on_the_way(told):
    assert values(told, "configuration")["name"] == ("test", "test → greedy")
    first, second = values(told, "configuration")["fingerprint"]
    assert second.startswith(f"{first} → ")
    assert values(told, "settings that differ") == {
        "evolution.rate": ("0.05", "0.05 → 0.5"),
        "judge.attempts": ("2", "2 → 3"),
    }


def test_counts_means_and_probabilities_are_those_of_the_tables(told, sides):
    made = values(told, "made")
    assert made["seeds"] == (12, 11)
    assert made["candidates"] == tuple(len(rows(side, tables.CANDIDATES)) for side in sides)
    for section, spec, field in (("verdicts", tables.JUDGE_VERDICTS, "verdict"),):
        counted = [Counter(getattr(row, field) for row in rows(side, spec)) for side in sides]
        assert values(told, section) == {key: tuple(count[key] for count in counted) for key in set().union(*counted)}
    final = [side.lake.read_table(tables.STAR_DATASET) for side in sides]
    counted = [Counter(row.selection for row in table) for table in final]
    assert values(told, "selections") == {key: tuple(c[key] for c in counted) for key in set().union(*counted)}
    for name, found in values(told, "selected, mean").items():
        expected = [mean(v for row in table if (v := getattr(row, name)) is not None) for table in final]
        assert found == pytest.approx(expected)
    ends = [
        side.lake.read_table(tables.AGENT_PAIR_PROBABILITIES, "000003-seeds" if side is sides[0] else "000003-more")
        for side in sides
    ]
    for pair, found in values(told, "final probabilities").items():
        assert found == tuple(next(row.probability for row in end if row.pair_id == pair) for end in ends)


def test_the_seeds_that_differ_are_those_whose_selected_text_differs(told, sides):
    one, two = ({row.seed_id: row for row in side.lake.read_table(tables.STAR_DATASET)} for side in sides)
    both = one.keys() & two.keys()
    what = lambda row: (row.pair_id, row.instruction, row.response)  # noqa: E731
    differ = {seed_id for seed_id in both if what(one[seed_id]) != what(two[seed_id])}
    assert {seed.seed_id for seed in told.differing_seeds} == differ
    assert 0 < len(differ) < len(both)
    against = values(told, "against the first lake")
    assert against["seeds in both"] == (None, len(both))
    assert against["selections that differ"] == (None, len(differ))
    for seed in told.differing_seeds:
        assert seed.pairs[0] == one[seed.seed_id].pair_id
        assert seed.pairs[1].split(",")[0] == two[seed.seed_id].pair_id


def test_three_lakes_and_every_format(sides, tmp_path, capsys):
    shutil.copytree(str(sides[0].lake.root), tmp_path / "it's a copy")
    told = compare([*names(sides), str(tmp_path / "it's a copy")])
    assert all(seed.pairs[2] is None and seed.pairs[1] for seed in told.differing_seeds)
    assert values(told, "against the first lake")["selections that differ"][2] == 0
    print_comparison(told, "json")
    again = json.loads(capsys.readouterr().out)
    assert [line["values"] for line in again["lines"]] == [list(line.values) for line in told.lines]
    print_comparison(told, "csv")
    table = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert len(table) == len(told.lines) + len(told.differing_seeds)
    print_comparison(told, "table")
    shown = capsys.readouterr().out
    assert "evolution.rate" in shown
    assert "0.05 → 0.5" in shown


def test_settings_that_the_tables_do_not_hold_are_unknown_and_no_difference(sides, tmp_path):
    shutil.copytree(str(sides[0].lake.root), tmp_path / "old")
    with duckdb.connect(str(tmp_path / "old" / "inspect.duckdb")) as database:
        database.execute("UPDATE configs SET settings = NULL")
    told = compare([names(sides)[0], str(tmp_path / "old")])
    assert values(told, "configuration")["settings in tables"] == ("kept", "unknown")
    assert values(told, "settings that differ") == {}


def test_what_cannot_be_compared_is_said_with_the_remedy(sides, tmp_path):
    there = names(sides)[0]
    with pytest.raises(LakeError, match=r"inspect\.duckdb is not there; make it with: star-pipeline run --lake"):
        compare([there, str(tmp_path / "nothing")])
    for few in ([there], [there, there]):
        with pytest.raises(ConfigError, match="two or more different lakes"):
            compare(few)
    with duckdb.connect(str(tmp_path / "inspect.duckdb")) as database:
        database.execute("CREATE TABLE candidates AS SELECT 1 AS x")
    with pytest.raises(LakeError, match=r"was made by another version; make it again with: star-pipeline run"):
        compare([there, str(tmp_path)])
