"""What ``star-pipeline query`` prints of a lake, in every format, and what it says of mistakes."""

import contextlib
import io
import json

import duckdb
import pandas as pd
import pyarrow.parquet as pq
import pytest

from star_pipeline.adapters.lake import Lake
from star_pipeline.commands.query import list_queries, run_query, show_query
from star_pipeline.core.errors import ConfigError, LakeError
from star_pipeline.inspection.build import build_inspection
from star_pipeline.inspection.shipped import TOPICS, shipped_queries, superseded_queries


@pytest.fixture(scope="module")
def lake(tmp_path_factory):
    """A lake without rows but one, in a table of its own."""
    made = Lake.at(tmp_path_factory.mktemp("lake"))
    build_inspection(made)
    with duckdb.connect(str(made.inspection)) as database:
        database.execute(
            "CREATE TABLE extra AS SELECT 1.5 AS pi, ['a', 'b'] AS ids, 'x\ny' AS text, NULL::INT AS nothing"
        )
    return made


class _Output(io.StringIO):
    """Standard output that keeps bytes too."""

    def __init__(self):
        super().__init__()
        self.buffer = io.BytesIO()


def printed(function, *arguments):
    """What a call prints, as text; as bytes where it prints Parquet."""
    with contextlib.redirect_stdout(_Output()) as output:
        function(*arguments)
    return output.buffer.getvalue() or output.getvalue()


ROW = "SELECT * FROM extra"


def test_csv_json_and_parquet_keep_values_lists_and_nulls(lake):
    assert printed(run_query, lake, ROW, "csv") == 'pi,ids,text,nothing\n1.5,"[""a"", ""b""]","x\ny",\n'
    expected = [{"pi": 1.5, "ids": ["a", "b"], "text": "x\ny", "nothing": None}]
    assert json.loads(printed(run_query, lake, ROW, "json")) == expected
    assert pq.read_table(io.BytesIO(printed(run_query, lake, ROW, "parquet"))).to_pylist()[0]["ids"] == ["a", "b"]


def test_a_table_has_a_line_a_row_and_no_more_rows_than_anyone_reads(lake, capsys):
    lines = printed(run_query, lake, ROW, "table").splitlines()
    assert len(lines) == 2
    assert lines[1].split() == ["1.5", '["a",', '"b"]', "x", "y"]
    assert len(printed(run_query, lake, "SELECT * FROM range(1001)", "table").splitlines()) == 1 + 1000
    assert "(1,000 rows, and there are more: --format csv, json or parquet gives all)" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["pair_leaderboard", "probabilities", "star_dataset", "task_domains"])
def test_queries_and_tables_go_by_their_names_even_where_nothing_is_in_them(lake, name):
    assert json.loads(printed(run_query, lake, name, "json")) == []
    assert pq.read_table(io.BytesIO(printed(run_query, lake, name, "parquet"))).num_rows == 0
    assert printed(run_query, lake, name, "table") == "no rows\n"
    assert printed(run_query, lake, name, "csv").count("\n") == 1


def test_the_list_groups_the_queries_by_topic_with_question_and_columns():
    text = printed(list_queries, "table")
    for name, query in shipped_queries().items():
        assert f"  {name:20} {query.question}" in text
    assert (
        text.index("Agent-pairs")
        < text.index("  pair_leaderboard")
        < text.index("The judge")
        < text.index("  judge_bias")
    )
    assert "win_rate, win_rate_low," in " ".join(text.split())


def test_the_list_as_json_csv_and_parquet():
    columns = ["pair_id", "bin_low", "bin_high", "rows"]
    listed = json.loads(printed(list_queries, "json"))
    assert [row["name"] for row in listed] == list(shipped_queries())
    assert {row["topic"] for row in listed} == set(TOPICS)
    assert next(row for row in listed if row["name"] == "gap_histogram")["columns"] == columns
    frame = pd.read_csv(io.StringIO(printed(list_queries, "csv")))
    assert frame.set_index("name").loc["gap_histogram", "columns"] == ", ".join(columns)
    parquet = pq.read_table(io.BytesIO(printed(list_queries, "parquet"))).to_pylist()
    assert parquet == listed


def test_old_names_are_answered_and_say_what_took_over_and_are_listed_at_the_end_alone(lake, capsys):
    listing = printed(list_queries, "table")
    assert listing.rstrip().endswith(f"still answered: {', '.join(superseded_queries())}")
    told = {name: query.notes for name, query in superseded_queries().items()}
    for name, notes in told.items():
        assert f"  {name:20} " not in listing
        successor = notes.removeprefix("Superseded by ").split(",")[0].split(":")[0].split(";")[0]
        assert successor in shipped_queries(), notes
        printed(run_query, lake, name, "csv")
        assert capsys.readouterr().err.startswith(f"{name}: Superseded by {successor}")
        assert printed(show_query, name).startswith("-- ")
    assert not {row["name"] for row in json.loads(printed(list_queries, "json"))} & set(told)


def test_show_prints_sql_that_can_be_run_as_it_is(lake):
    for name in shipped_queries():
        text = printed(show_query, name)
        assert text.startswith("-- ")
        assert printed(run_query, lake, text, "csv") == printed(run_query, lake, name, "csv")


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("pair_leaderbord", "pair_leaderboard"),
        ("Winners", "winners"),
        ("winer", "winners"),
        ("judge", "judge_bias"),
        ("gaps", "gap_by_pair"),
        ("stardataset", "star_dataset"),
    ],
)
def test_a_name_with_a_typo_is_told_the_nearest(lake, name, near):
    for ask in (lambda: run_query(lake, name, "table"), lambda: show_query(name)):
        with pytest.raises(ConfigError, match=f"no query or table named '{name}'; did you mean .*{near}") as error:
            ask()
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("nonsense", "--list"),
        ("SELECT 1; SELECT 2", "2 statements"),
        ("SELECT nope FROM candidates", "nope"),
        ("DROP TABLE candidates", "read-only"),
    ],
)
def test_what_cannot_be_asked_is_said_in_one_line(lake, sql, words):
    with pytest.raises(ConfigError, match=words) as error:
        run_query(lake, sql, "csv")
    assert "\n" not in str(error.value)


def test_only_queries_can_be_shown():
    with pytest.raises(ConfigError, match="candidates is a table"):
        show_query("candidates")
    with pytest.raises(ConfigError, match="give the name of a query"):
        show_query(None)


def test_a_file_of_another_version_says_how_to_make_it_again(tmp_path):
    lake = Lake.at(tmp_path)
    with duckdb.connect(str(lake.inspection)) as database:
        database.execute("CREATE TABLE candidates (candidate_id VARCHAR)")
    with pytest.raises(LakeError, match="made by another version; make it again with: star-pipeline run"):
        run_query(lake, "pair_domains", "csv")
    run_query(lake, "SELECT count(*) FROM candidates", "csv")


def test_a_file_that_another_program_writes_says_so(lake):
    import subprocess
    import sys

    code = (
        f"import duckdb, sys; d = duckdb.connect({str(lake.inspection)!r}); print('open', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "open\n"
        with pytest.raises(LakeError, match="open for writing in another program"):
            run_query(lake, "winners", "csv")
        other.stdin.close()
