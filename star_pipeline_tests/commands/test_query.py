"""What ``star-pipeline query`` prints of a lake, in every format, and what it says of mistakes."""

import contextlib
import csv
import io
import json
import re
from decimal import Decimal

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
    said = output.buffer.getvalue()
    return said if said.startswith(b"PAR1") else said.decode() + output.getvalue()


ROW = "SELECT * FROM extra"


def test_csv_json_and_parquet_keep_values_lists_and_nulls(lake):
    assert printed(run_query, lake, ROW, "csv") == 'pi,ids,text,nothing\n1.5,"[""a"",""b""]","x\ny",\n'
    expected = [{"pi": 1.5, "ids": ["a", "b"], "text": "x\ny", "nothing": None}]
    assert json.loads(printed(run_query, lake, ROW, "json")) == expected
    assert pq.read_table(io.BytesIO(printed(run_query, lake, ROW, "parquet"))).to_pylist()[0]["ids"] == ["a", "b"]


VALUES = {
    "tiny": ("1.2e-12::DOUBLE", 1.2e-12),
    "tenth": ("0.1::DOUBLE + 0.2::DOUBLE", 0.1 + 0.2),
    "count_or_null": ("CASE WHEN i < 2 THEN 10 END", 10),
    "large": ("9007199254740993::BIGINT", 9007199254740993),
    "unsigned": ("18446744073709551615::UBIGINT", 18446744073709551615),
    "total": ("99999999999999999999999999999999999999::HUGEINT", 99999999999999999999999999999999999999),
    "money": ("1234567890.123456789::DECIMAL(28, 9)", Decimal("1234567890.123456789")),
    "at": ("TIMESTAMP '2026-01-02 03:04:05.123456'", None),
    "zoned": ("TIMESTAMPTZ '2026-01-02 03:04:05.123456+05:30'", None),
    "fine": ("TIMESTAMP_NS '2026-01-02 03:04:05.123456789'", None),
    "far": ("TIMESTAMP '12000-01-01 00:00:00'", None),
    "never": ("'infinity'::TIMESTAMP", None),
    "day": ("DATE '0044-03-15'", None),
    "hour": ("TIME '01:02:03.000004'", None),
    "hour_there": ("TIMETZ '01:02:03.000004+05'", None),
    "while": ("INTERVAL '1 month 2 days 3.000004 seconds'", None),
    "id": ("'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::UUID", None),
    "bytes": ("'\\xAA\\x00\\x5C'::BLOB", None),
    "bits": ("'0101'::BIT", None),
    "kind": ("'b'::ENUM('a', 'b')", None),
    "yes": ("true", True),
    "nan": ("'nan'::DOUBLE", None),
    "least": ("'-inf'::DOUBLE", None),
    "text": ("'NaN, -Infinity \\ \" ' || chr(10) || chr(0) || 'β'", 'NaN, -Infinity \\ " \n\0β'),
    "blank": ("''", ""),
    "digits": ("'0010'", "0010"),
    "list": ("[1.5, NULL, 1e-12]", [1.5, None, 1e-12]),
    "fixed": ("[1, 2]::INT[2]", [1, 2]),
    "inner": ("{'a b': [{'c': 99999999999999999999999::HUGEINT, 'n': NULL}], 'd': INTERVAL 1 DAY}", None),
    "map": ("MAP {'k': 1e-12, 'l': NULL}", None),
    "either": ("union_value(k := 3)", None),
}
EVERY = ", ".join(f'{sql} AS "{name}"' for name, (sql, _) in VALUES.items())
EVERY = f"SELECT i, {EVERY} FROM range(3) t(i) ORDER BY i DESC"


def back(source):
    """The answer's values, and those read from ``source``, each as DuckDB writes it once it has its own type."""
    with duckdb.connect() as database:
        answer = database.sql(EVERY)
        kinds = dict(zip(answer.columns, answer.types, strict=True))
        expected = ", ".join(f'"{name}"::VARCHAR' for name in kinds)
        read = []
        for name, kind in kinds.items():
            as_json = name == "either" or (source.startswith("read_csv") and name in ("list", "fixed", "inner", "map"))
            read.append(f'("{name}"{"::JSON" if as_json else ""}::{kind})::VARCHAR')
        return answer.project(expected).fetchall(), database.sql(f"SELECT {', '.join(read)} FROM {source}").fetchall()


def test_csv_keeps_every_value(lake, tmp_path):
    text = printed(run_query, lake, EVERY, "csv")
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert [row["count_or_null"] for row in rows] == ["", "10", "10"]
    assert (rows[0]["tiny"], rows[0]["total"], rows[0]["money"]) == ("1.2e-12", "9" * 38, "1234567890.123456789")
    assert ',"",0010,' in text
    (tmp_path / "a.csv").write_text(text, newline="")
    expected, read = back(
        f"read_csv('{tmp_path}/a.csv', all_varchar = true, header = true, allow_quoted_nulls = false)"
    )
    assert read == expected


def test_json_keeps_every_value(lake):
    rows = json.loads(printed(run_query, lake, EVERY, "json"), parse_constant=lambda name: pytest.fail(name))
    assert [row["i"] for row in rows] == [2, 1, 0]
    assert rows[0]["count_or_null"] is None
    for name, (_, value) in VALUES.items():
        if value is not None and name != "money":
            assert rows[1][name] == value, name
            assert type(rows[1][name]) is type(value), name
    assert (rows[0]["nan"], rows[0]["least"]) == ("NaN", "-Infinity")
    assert rows[0]["zoned"].startswith("2026-01-01 21:34:05.123456")
    assert (rows[0]["at"], rows[0]["fine"][-9:]) == ("2026-01-02 03:04:05.123456", "123456789")
    assert '"money":1234567890.123456789,' in printed(run_query, lake, EVERY, "json")
    assert rows[0]["inner"]["a b"] == [{"c": 99999999999999999999999, "n": None}]


def test_parquet_keeps_every_value_and_type(lake, tmp_path):
    content = printed(run_query, lake, EVERY, "parquet")
    (tmp_path / "a.parquet").write_bytes(content)
    expected, read = back(f"read_parquet('{tmp_path}/a.parquet')")
    assert read == expected
    types = {field.name: str(field.type) for field in pq.read_schema(io.BytesIO(content))}
    assert (types["count_or_null"], types["tiny"], types["at"]) == ("int32", "double", "timestamp[us]")
    assert (types["total"], types["large"], types["zoned"][:13]) == ("decimal128(38, 0)", "int64", "timestamp[us,")
    most = printed(run_query, lake, f"SELECT {2**127 - 1}::HUGEINT AS x", "parquet")
    assert pq.read_table(io.BytesIO(most)).to_pylist() == [{"x": str(2**127 - 1)}]


def test_a_table_keeps_all_but_the_last_digits_of_a_float(lake):
    for name, shown in (("large", "9007199254740993"), ("total", "9" * 38), ("tiny", "1.2e-12"), ("tenth", "0.3")):
        assert shown in printed(run_query, lake, f'SELECT "{name}" FROM ({EVERY})', "table").split()
    assert "2026-01-02 03:04:05.123456" in printed(run_query, lake, f'SELECT "at" FROM ({EVERY})', "table")


def test_columns_of_one_name_all_stay(lake, capsys):
    sql = "SELECT 1 AS a, 2 AS a, 3 AS b, 4 AS A"
    for form in ("csv", "json", "parquet", "table"):
        said = printed(run_query, lake, sql, form)
        if form == "parquet":
            assert list(pq.read_table(io.BytesIO(said)).to_pylist()[0].values()) == [1, 2, 3, 4]
        elif form == "json":
            assert list(json.loads(said)[0].values()) == [1, 2, 3, 4]
        else:
            assert said.replace(",", " ").split()[-4:] == ["1", "2", "3", "4"]
    assert "columns of one name" in capsys.readouterr().err


@pytest.mark.parametrize("form", ["csv", "json", "parquet", "table"])
def test_whatever_gives_rows_can_be_asked(lake, form):
    for sql in (
        "DESCRIBE candidates",
        "SHOW TABLES",
        "SUMMARIZE extra",
        "EXPLAIN SELECT 1",
        "VALUES (1)",
        "FROM extra",
    ):
        assert printed(run_query, lake, sql, form)


def test_the_order_of_the_rows_is_the_querys(lake):
    sql = "SELECT i, hash(i) AS h FROM range(300000) t(i) ORDER BY hash(i)"
    for said in (printed(run_query, lake, sql, "csv"), printed(run_query, lake, sql, "json")):
        hashes = [int(found) for found in re.findall(r'(?:,|"h":)(\d+)\}?,?$', said, re.MULTILINE)]
        assert len(hashes) == 300_000
        assert hashes == sorted(hashes)


def test_a_table_has_a_line_a_row_and_no_more_rows_than_anyone_reads(lake, capsys):
    lines = printed(run_query, lake, ROW, "table").splitlines()
    assert len(lines) == 2
    assert lines[1].split() == ["1.5", '["a","b"]', "x", "y"]
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
