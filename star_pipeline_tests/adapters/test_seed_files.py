"""Seed files: found, read record by record, taken in whole or not at all."""

import json
import tracemalloc

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from upath import UPath

from star_pipeline.adapters.lake import Lake
from star_pipeline.adapters.seed_files import read_seeds, seed_files
from star_pipeline.adapters.seed_intake import SeedReading, take_in_starter
from star_pipeline.core.errors import ConfigError, SeedError
from star_pipeline.core.intake.seeds import SeedRules
from star_pipeline_tests.conftest import take_in

ROWS = [{"instruction": f"q{n}", "input": "", "output": f"a{n}"} for n in range(3)]


def written(folder, name, content):
    path = UPath(folder / name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def read(path, fields=None):
    return list(read_seeds(path, path.name, SeedRules(fields or {})))


def test_json_and_jsonl_hold_the_same_seeds(tmp_path):
    one = read(written(tmp_path, "a.json", json.dumps(ROWS)))
    lines = "\n".join(json.dumps(row) for row in ROWS)
    two = read(written(tmp_path, "a.jsonl", "\ufeff" + lines.replace("\n", "\r\n\r\n")))
    assert [seed.seed_id for seed in one] == [seed.seed_id for seed in two]
    assert [seed.source_row for seed in one] == [1, 2, 3]
    assert [seed.source_row for seed in two] == [1, 3, 5]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.json", "", ["empty"]),
        ("a.json", "[]", ["no records"]),
        ("a.json", "{}", ["dict", "list of records"]),
        ("a.json", '[{"instruction": "x"', ["line 1", "no valid JSON"]),
        ("a.json", '{"instruction": "x", "output": "y"}\n{"instruction": "x", "output": "y"}', [".jsonl"]),
        ("a.jsonl", '{"instruction": "x", "output": "y"}\n{broken\n', ["line 2", "no valid JSON"]),
        ("a.jsonl", b'{"instruction": "x", "output": "y"}\n{"instruction": "\xff"}', ["line 2", "UTF-8"]),
        ("a.json", b'["\xff"]', ["UTF-8"]),
        ("a.json", json.dumps([*ROWS, {"instruction": "", "output": "x"}]), ["row 4", "'instruction'", "empty"]),
    ],
)
def test_a_file_that_does_not_fit_is_named_with_its_place(tmp_path, name, content, words):
    with pytest.raises(SeedError) as error:
        read(written(tmp_path, name, content))
    assert str(error.value).startswith(name)
    assert all(word in str(error.value) for word in words), str(error.value)


def test_files_are_found_in_the_order_of_their_names_hidden_and_foreign_ones_left_out(tmp_path):
    for name in ("b.json", "a/z.jsonl", ".hidden.json", "c.txt", ".git/x.json", "a.JSON"):
        written(tmp_path, name, "x")
    assert [path.relative_to(UPath(tmp_path)).as_posix() for path in seed_files(UPath(tmp_path))] == [
        "a.JSON",
        "a/z.jsonl",
        "b.json",
    ]


def test_taking_in_copies_beside_what_is_there(tmp_path):
    lake = Lake.at(tmp_path / "lake")
    one = written(tmp_path, "one.json", json.dumps(ROWS))
    assert take_in(lake, [str(one)], SeedRules()) == ["one.json"]
    assert take_in(lake, [str(one)], SeedRules()) == []
    written(tmp_path / "more", "two.jsonl", json.dumps({"instruction": "x", "output": "y"}))
    assert take_in(lake, [str(tmp_path / "more")], SeedRules()) == ["two.jsonl"]
    assert [seed.instruction for seed in SeedReading(lake, {}, SeedRules()).seeds()] == ["q0", "q1", "q2", "x"]
    written(tmp_path, "one.json", json.dumps(ROWS[:1]))
    assert take_in(lake, [str(one)], SeedRules()) == ["one.json"]
    assert [seed.instruction for seed in SeedReading(lake, {}, SeedRules()).seeds()] == ["q0", "x"]


def test_one_bad_file_and_none_is_copied(tmp_path):
    lake = Lake.at(tmp_path / "lake")
    good = written(tmp_path, "good.json", json.dumps(ROWS))
    bad = written(tmp_path, "bad.json", json.dumps([{"instruction": 3}]))
    with pytest.raises(SeedError, match=r"bad\.json, row 1"):
        take_in(lake, [str(good), str(bad)], SeedRules())
    assert not list(lake.seeds.iterdir())


def test_what_cannot_be_taken_in(tmp_path):
    lake = Lake.at(tmp_path / "lake")
    with pytest.raises(ConfigError, match="no such file"):
        take_in(lake, [str(tmp_path / "nope.json")], SeedRules())
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="no seed files"):
        take_in(lake, [str(tmp_path / "empty")], SeedRules())
    with pytest.raises(ConfigError, match=r"\.txt"):
        take_in(lake, [str(written(tmp_path, "a.txt", "x"))], SeedRules())
    a, b = written(tmp_path / "1", "x.json", json.dumps(ROWS)), written(tmp_path / "2", "x.json", json.dumps(ROWS))
    with pytest.raises(ConfigError, match="same name"):
        take_in(lake, [str(a), str(b)], SeedRules())


def test_the_starter_seeds_are_varied_valid_and_without_duplicates(tmp_path):
    lake = Lake.at(tmp_path)
    take_in_starter(lake)
    seeds = list(SeedReading(lake, {}, SeedRules()).seeds())
    assert len(seeds) >= 150
    assert len({seed.seed_id for seed in seeds}) == len({seed.instruction for seed in seeds if not seed.history}) + sum(
        bool(s.history) for s in seeds
    )
    assert sum(bool(seed.history) for seed in seeds) >= 10
    assert sum(bool(seed.system) for seed in seeds) >= 5
    assert all(seed.response.strip() for seed in seeds)


def conversations(count):
    return [
        {"conversations": [{"from": "human", "value": f"q{n}"}, {"from": "gpt", "value": f"a{n}"}]}
        for n in range(count)
    ]


def test_every_file_format_holds_the_same_seeds(tmp_path):
    expected = [seed.seed_id for seed in read(written(tmp_path, "a.json", json.dumps(ROWS)))]
    frame = pd.DataFrame(ROWS)
    frame.to_csv(tmp_path / "a.csv", index=False)
    frame.to_parquet(tmp_path / "a.parquet")
    for name in ("a.csv", "a.parquet"):
        seeds = read(UPath(tmp_path / name))
        assert [seed.seed_id for seed in seeds] == expected
        assert [seed.source_row for seed in seeds] == [1, 2, 3]


def test_nested_fields_survive_csv_and_parquet(tmp_path):
    rows = [{"instruction": "q", "output": "a", "history": [["u", "v"]]}, *[{**row, "history": []} for row in ROWS]]
    expected = [seed.seed_id for seed in read(written(tmp_path, "h.json", json.dumps(rows)))]
    pd.DataFrame([{**row, "history": json.dumps(row["history"])} for row in rows]).to_csv(
        tmp_path / "h.csv", index=False
    )
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "h.parquet")
    pq.write_table(pa.Table.from_pylist(conversations(2)), tmp_path / "c.parquet")
    assert [seed.seed_id for seed in read(UPath(tmp_path / "h.csv"))] == expected
    assert [seed.seed_id for seed in read(UPath(tmp_path / "h.parquet"))] == expected
    assert [seed.response for seed in read(UPath(tmp_path / "c.parquet"))] == ["a0", "a1"]


def test_csv_with_quoted_line_breaks_commas_and_a_byte_order_mark(tmp_path):
    text = '\ufeffinstruction,output\r\n"a, ""b""\nc",\u00fc\r\n\r\nd,e\r\n'
    assert [(s.instruction, s.response) for s in read(written(tmp_path, "x.csv", text))] == [
        ('a, "b"\nc', "\u00fc"),
        ("d", "e"),
    ]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.csv", "", ["empty", "header"]),
        ("a.csv", "instruction,output\nx,y,z\n", ["row 1", "3 cells, expected 2"]),
        ("a.csv", b"instruction,output\nx,\xff\n", ["line 2", "UTF-8"]),
        ("a.csv", "instruction,output\n,y\n", ["row 1", "'instruction'", "empty"]),
        ("a.csv", "question,answer\nx,y\n", ["row 1", "'question', 'answer'"]),
        ("a.parquet", "no parquet", ["no valid Parquet"]),
        ("a.json", '[{"instruction": "x", "output": "y"},]', ["line 1"]),
        ("a.json", '[{"instruction": "x", "output": "y"}] trailing', ["Extra data"]),
        ("a.json", '[{"instruction": "x", "output": "y"}\n{"a": 1}]', ["line 2, column 1", "','"]),
        ("a.json", '[\n{"instruction": "x", "output": "y"},\n{"instruction": }]', ["line 3, column 17"]),
        ("a.json", '"text"', ["a JSON str"]),
    ],
)
def test_other_broken_files(tmp_path, name, content, words):
    with pytest.raises(SeedError) as error:
        read(written(tmp_path, name, content))
    assert str(error.value).startswith(name)
    assert all(word in str(error.value) for word in words), str(error.value)


def test_literal_nan_and_numbers_at_the_end_of_a_piece_are_read(tmp_path):
    rows = [{"instruction": "x" * 700_000, "output": "y", "score": float("nan")} for _ in range(4)]
    assert len(read(written(tmp_path, "a.json", json.dumps(rows)))) == 4


def test_bad_rows_are_skipped_where_asked_but_a_file_without_any_seed_is_an_error(tmp_path):
    lines = '{"instruction": "x", "output": "y"}\n{broken\n{"instruction": ""}\n'
    rows = list(read_seeds(written(tmp_path, "a.jsonl", lines), "a.jsonl", SeedRules(skip_bad_rows=True)))
    assert [type(row).__name__ for row in rows] == ["Seed", "RejectedRow", "RejectedRow"]
    assert [row.source_row for row in rows] == [1, 2, 3]
    with pytest.raises(SeedError, match=r"no usable record; row 1: line 1, column 2: no valid JSON"):
        list(read_seeds(written(tmp_path, "b.jsonl", "{x\n{y\n"), "b.jsonl", SeedRules(skip_bad_rows=True)))


@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "a.csv", "a.parquet"])
def test_memory_is_bounded_whatever_the_number_of_rows(tmp_path, name):
    frame = pd.DataFrame({"instruction": [f"q{n} " * 40 for n in range(60_000)], "output": "a" * 200})
    path = UPath(tmp_path / name)
    {
        "a.json": lambda: frame.to_json(path, orient="records"),
        "a.jsonl": lambda: frame.to_json(path, orient="records", lines=True),
        "a.csv": lambda: frame.to_csv(path, index=False),
        "a.parquet": lambda: frame.to_parquet(path, row_group_size=5000),
    }[name]()
    tracemalloc.start()
    assert sum(1 for _ in read_seeds(path, name, SeedRules())) == 60_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16_000_000
