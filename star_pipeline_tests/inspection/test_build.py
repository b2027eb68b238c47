"""The inspection file as a whole: described, readable while it is replaced, whole on young and on old lakes."""

import shutil
import subprocess
import sys
import textwrap

import duckdb
import pyarrow.parquet as pq
import pytest

from star_pipeline.adapters.lake import Lake
from star_pipeline.core.errors import LakeError
from star_pipeline.core.records import CatalogEntry
from star_pipeline.core.tables import CANDIDATES, JUDGE_VERDICTS, SEED_CATALOG, SHARD_MANIFEST, TASK_DOMAINS
from star_pipeline.inspection.build import TABLE_NAMES, build_inspection, open_inspection, query_columns
from star_pipeline.inspection.shipped import STORED, in_order_of_use, parse_query, shipped_queries, superseded_queries


def copied(lake, target):
    """The lake's tables in a lake of their own."""
    for name in ("tables", "star_dataset"):
        shutil.copytree(str(lake.root / name), target / name)
    return Lake.at(target)


def test_a_lake_named_like_a_pattern_holds_its_own_tables_alone(tmp_path):
    for name, count in (("data*", 1), ("data[1]", 2), ("data1", 3), ("data22", 4)):
        lake = Lake.at(tmp_path / name)
        rows = [CatalogEntry(f"{name}{n}", "000001-x", n, "x.json", n, True) for n in range(count)]
        lake.write_table(SEED_CATALOG, SEED_CATALOG.to_arrow(rows))
        lake.write_table(SHARD_MANIFEST, SHARD_MANIFEST.to_arrow([]), "000001-x")
    for name, count in (("data*", 1), ("data[1]", 2)):
        lake = Lake.at(tmp_path / name)
        assert build_inspection(lake)["seed_catalog"] == count
        with open_inspection(lake) as database:
            assert database.execute("SELECT DISTINCT seed_id[:5] FROM seed_catalog").fetchall() == [(name[:5],)]


def test_each_shipped_query_is_a_view_of_its_name_and_says_what_it_answers(ask):
    kinds = {
        row["table_name"]: row["table_type"]
        for row in ask("SELECT table_name, table_type FROM information_schema.tables")
    }
    views = {
        row["view_name"]: row["comment"]
        for row in ask("SELECT view_name, comment FROM duckdb_views() WHERE NOT internal")
    }
    assert {*shipped_queries(), *superseded_queries()} == {
        name for name, kind in kinds.items() if kind == "VIEW"
    } | STORED
    assert not set(shipped_queries()) & set(superseded_queries())
    assert set(TABLE_NAMES) == {name for name, kind in kinds.items() if kind == "BASE TABLE"} - STORED
    for name, query in shipped_queries().items():
        assert query.question.endswith("?"), name
        assert name in STORED or views[name].startswith(query.question)


def test_descriptions_are_of_columns_that_are_there(ask):
    there = {
        (row["t"], row["c"]): row["d"]
        for row in ask("SELECT table_name AS t, column_name AS c, comment AS d FROM duckdb_columns()")
    }
    for name, query in shipped_queries().items():
        for column, text in query.columns.items():
            assert there[name, column] == text
    for table in TABLE_NAMES:
        assert all(text for (name, _), text in there.items() if name == table)
    assert there["lineage", "gap"] == "ifd_small - ifd_large"  # as all tables say


def test_the_opening_comments_are_question_notes_and_columns():
    text = "-- What?\n-- How to read it,\n-- in two lines.\n-- pi: the score\nSELECT 1 AS pi -- pi: not this\n"
    query = parse_query("pairs", "one", text)
    assert (query.question, query.notes, query.columns) == (
        "What?",
        "How to read it, in two lines.",
        {"pi": "the score"},
    )
    assert query.sql == "SELECT 1 AS pi -- pi: not this"


def test_queries_come_after_those_they_read():
    order = [query.name for query in in_order_of_use()]
    assert sorted(order) == sorted([*shipped_queries(), *superseded_queries()])
    for first, later in (
        ("comparisons", "judge_bias"),
        ("agents", "comparisons"),
        ("costs", "cost_per_row"),
        ("lineage", "why"),
    ):
        assert order.index(first) < order.index(later)


def test_columns_are_known_without_a_lake_and_are_those_of_a_full_one(ask):
    known = query_columns()
    for name in set(shipped_queries()) - STORED:
        found = [(row["column_name"], row["column_type"]) for row in ask(f"DESCRIBE SELECT * FROM {name}")]
        assert [(column.name, column.type) for column in known[name]] == found, name


def test_a_lake_without_tables_gives_every_table_and_query_empty(tmp_path):
    lake = Lake.at(tmp_path)
    assert set(build_inspection(lake).values()) == {0}
    with open_inspection(lake) as database:
        for name in (*TABLE_NAMES, *shipped_queries(), *superseded_queries()):
            rows = database.execute(f"SELECT * FROM {name}").fetchall()
            assert not any(row[-1] for row in rows) if name == "funnel" else rows == [], name


def test_an_older_lake_lacks_tables_and_columns_and_a_newer_one_has_more(lake, tmp_path):
    old = copied(lake, tmp_path)
    old.table(TASK_DOMAINS).unlink()
    for shard in old.shards_of(JUDGE_VERDICTS):
        path = str(old.table(JUDGE_VERDICTS, shard))
        pq.write_table(pq.read_table(path).drop_columns(["judge_agent"]).replace_schema_metadata(None), path)
    path = str(old.table(CANDIDATES, old.shards_of(CANDIDATES)[0]))
    made = pq.read_table(path)
    pq.write_table(made.append_column("mood", made["pair_id"]), path)
    sizes = build_inspection(old)
    assert (sizes["task_domains"], sizes["candidates"]) == (
        0,
        pq.read_table(str(old.root / "tables" / "candidates")).num_rows,
    )
    with open_inspection(old) as database:
        for name in shipped_queries():
            database.execute(f"SELECT * FROM {name}").fetchall()
        assert database.execute(
            "SELECT count(*), count(judge_model), count(DISTINCT response_model) FROM comparisons"
        ).fetchone()[1:] == (0, 2)
        assert database.execute("SELECT count(*) FROM domains").fetchone() == (0,)


def test_views_and_macros_work_in_an_attached_file(lake):
    with duckdb.connect() as database:
        database.execute(f"ATTACH '{lake.inspection}' AS other (READ_ONLY)")
        for name in shipped_queries():
            database.execute(f"SELECT * FROM other.{name}").fetchall()


READER = textwrap.dedent("""
    import sys, duckdb
    path, rounds = sys.argv[1], 0
    print("ready", flush=True)
    while True:
        with duckdb.connect(path, read_only=True) as database:
            made, told = database.execute(
                "SELECT (SELECT count(*) FROM candidates), (SELECT sum(candidates) FROM pair_leaderboard)"
            ).fetchone()
            assert made == told > 0, (made, told)
        rounds += 1
        if rounds % 5 == 0:
            print(rounds, flush=True)
""")


def test_readers_in_other_processes_see_a_whole_file_while_it_is_replaced_again_and_again(lake, tmp_path):
    busy = copied(lake, tmp_path / "lake")
    build_inspection(busy)
    command = [sys.executable, "-c", READER, str(busy.inspection)]
    holder = textwrap.dedent("""
        import sys, duckdb
        database = duckdb.connect(sys.argv[1], read_only=True)
        count = lambda: database.execute("SELECT count(*) FROM task_domains").fetchone()[0]
        print(count(), flush=True)
        sys.stdin.readline()
        print(count(), len(database.execute("SELECT * FROM lineage").fetchall()), flush=True)
    """)
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as first,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as second,
        subprocess.Popen(
            [sys.executable, "-c", holder, str(busy.inspection)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as held,
    ):
        readers = (first, second)
        before = int(held.stdout.readline())
        assert before > 0
        for reader in readers:
            assert reader.stdout.readline() == "ready\n"
        busy.table(TASK_DOMAINS).unlink()
        for _ in range(3):  # as many replacements as five looks of each reader take, three times
            for reader in readers:
                build_inspection(busy)
                said = reader.stdout.readline()
                assert said, reader.stderr.read()
        with open_inspection(busy) as database:
            assert database.execute("SELECT count(*) FROM task_domains").fetchone() == (0,)
        held.stdin.write("\n")
        held.stdin.flush()
        count, rows = map(int, held.stdout.readline().split())
        for reader in readers:
            assert reader.poll() is None, reader.stderr.read()
            reader.kill()
    assert count == before  # the connection held open still reads the file that it opened
    assert rows == pq.read_table(str(busy.root / "tables" / "candidates")).num_rows
    assert [path.name for path in busy.root.iterdir() if "partial" in path.name] == []


def test_what_stands_in_the_way_is_one_line_with_a_remedy(lake, tmp_path):
    with pytest.raises(LakeError, match="star-pipeline run --lake"), open_inspection(Lake.at(tmp_path)):
        pass
    (tmp_path / "inspect.duckdb").write_bytes(b"from the future" * 1000)
    with (
        pytest.raises(LakeError, match=r"cannot be opened by DuckDB .*make it again"),
        open_inspection(Lake.at(tmp_path)),
    ):
        pass
    with pytest.raises(LakeError, match="cannot write"):
        build_inspection(Lake.at(tmp_path / "inspect.duckdb" / "lake"))
