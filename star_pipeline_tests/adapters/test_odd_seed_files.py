"""Files as they come from elsewhere: every value is read or refused in one line, and what is passed over is told."""

import csv
import gzip
import io
import json
import os
import struct
from hashlib import sha256

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from upath import UPath

from star_pipeline.adapters.lake import Lake
from star_pipeline.adapters.record_files import ENDINGS
from star_pipeline.adapters.seed_files import passed_over, read_seeds, seed_files
from star_pipeline.adapters.seed_intake import SeedReading, would_hold
from star_pipeline.adapters.seed_state import content_digest, list_seed_files
from star_pipeline.core.errors import ConfigError, SeedError
from star_pipeline.core.intake.seeds import SeedRules
from star_pipeline.core.records import Seed
from star_pipeline_tests.conftest import take_in

GOOD = {"instruction": "q", "output": "a"}
LINE = json.dumps(GOOD)
HUGE = "9" * 5000
SKIP = SeedRules(skip_bad_rows=True)


def written(folder, name, content):
    path = UPath(folder / name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def read(path, rules=SKIP):
    return list(read_seeds(path, path.name, rules))


def kinds(path, rules=SKIP):
    return [type(row).__name__ for row in read(path, rules)]


def parquet(folder, columns, name="a.parquet"):
    pq.write_table(pa.table(columns), folder / name)
    return UPath(folder / name)


def deep(opening="[", closing="]"):
    return opening * 100_000 + closing * 100_000


ODD_RECORDS = [
    (LINE[:-1] + f', "id": {HUGE}}}', "Seed"),
    (LINE[:-1] + f', "id": -{HUGE}, "more": {{"n": [{HUGE}]}}}}', "Seed"),
    (LINE[:-1] + ', "score": NaN, "most": -Infinity, "id": 1e999}', "Seed"),
    (LINE[:-1] + ', "meta": {"a": 1, "a": 2}}', "Seed"),
    (f'{{"instruction": {HUGE}, "output": "a"}}', "a number"),
    (LINE[:-1] + f', "meta": {deep()}}}', "nested too deeply"),
    (LINE[:-1] + f""", "meta": {deep('{"]}":', "}").replace('{"]}":}', '{"]}":1}')}}}""", "nested too deeply"),
    (LINE[:-1] + ', "output": ""}', "field 'output': there twice"),
    ('{"instruction": "\\ud800", "output": "a"}', "half a character"),
    ('{"instruction": "q\\u0000", "output": "\\u0000"}', "Seed"),
    (
        f'{{"instruction": "q", "output": "a", "history": {"[" * 300 + "]" * 300}}}',
        "expected [user text, assistant text]",
    ),
]


@pytest.mark.parametrize(("record", "expected"), ODD_RECORDS)
def test_odd_json_is_a_seed_or_one_bad_row_and_the_rest_goes_on(tmp_path, record, expected):
    for path in (
        written(tmp_path, "a.jsonl", f"{LINE}\n{record}\n{LINE}\n"),
        written(tmp_path, "a.json", f"[{LINE}, {record},\n{LINE}]"),
    ):
        first, odd, last = read(path)
        assert isinstance(first, Seed)
        assert isinstance(last, Seed)
        assert last.source_row == 3
        assert type(odd).__name__ == "Seed" if expected == "Seed" else expected in odd.reason
        if expected != "Seed":
            with pytest.raises(SeedError, match="row 2") as error:
                read(path, SeedRules())
            assert "\n" not in str(error.value)
            assert len(str(error.value)) < 600


def test_deep_nesting_that_never_ends_or_is_longer_than_a_piece(tmp_path):
    record = LINE[:-1] + f', "x": {"[" * 600_000}"]]]"{"]" * 600_000}}}'
    assert kinds(written(tmp_path, "a.json", f"[{LINE},{record},{LINE}]")) == ["Seed", "RejectedRow", "Seed"]
    with pytest.raises(SeedError, match="nested too deeply"):
        read(written(tmp_path, "b.json", f'[{LINE}, {"[" * 100_000} "'))
    with pytest.raises(SeedError, match="nested too deeply"):
        read(written(tmp_path, "c.json", '{"a":' * 100_000 + "1" + "}" * 100_000))


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=60), st.sampled_from(["jsonl", "json", "csv"]), st.integers(0, 40))
def test_any_text_in_any_file_is_rows_or_one_line(tmp_path_factory, text, ending, place):
    content = {"jsonl": f"{LINE}\n{LINE}\n", "json": f"[{LINE}, {LINE}]", "csv": "instruction,output\nq,a\nr,b\n"}[
        ending
    ]
    path = written(tmp_path_factory.getbasetemp(), f"any.{ending}", (content[:place] + text + content[place:]).encode())
    try:
        assert read(path)
    except SeedError as error:
        assert "\n" not in str(error)  # noqa: PT017


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32", "cp037"])
@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "a.csv", "a.parquet", "a.json.gz", "a.jsonl.zst"])
def test_other_encodings_are_one_line(tmp_path, name, encoding):
    with pytest.raises(SeedError, match=name) as error:
        read(written(tmp_path, name, f"[{LINE}]\n".encode(encoding)))
    assert "\n" not in str(error.value)


def test_two_columns_of_one_name_are_refused_with_their_name(tmp_path):
    for header in ("instruction,output,output", "instruction,output, output ,x", "id,instruction,output,id"):
        cells = "q,a,,x" if header.count(",") == 3 else "q,a,"
        with pytest.raises(SeedError, match=r"more than one column named '(output|id)'.*rename or remove"):
            read(written(tmp_path, "a.csv", f"{header}\n{cells}\n"))
    assert kinds(written(tmp_path, "b.csv", "instruction,output,,\nq,a,,\n")) == ["Seed"]
    texts = [pa.array(["q"]), pa.array(["a"]), pa.array([""])]
    pq.write_table(pa.Table.from_arrays(texts, ["instruction", "output", "output"]), tmp_path / "a.parquet")
    with pytest.raises(SeedError, match="more than one column named 'output'"):
        read(UPath(tmp_path / "a.parquet"))


def test_parquet_reads_no_column_that_nobody_needs(tmp_path):
    odd = {
        "instruction": ["q", "r"],
        "late": pa.array([2**62, 0], pa.timestamp("us")),
        "zoned": pa.array([0, 1], pa.timestamp("ns", "Mars/Olympus")),
        "early": pa.array([-(2**31), 0], pa.date32()),
        "bad": bad_text([b"\xff\xfe", b"x"]),
        "output": ["a", "b"],
    }
    assert [(seed.instruction, seed.response) for seed in read(parquet(tmp_path, odd))] == [("q", "a"), ("r", "b")]
    with pytest.raises(SeedError, match=r"it holds 'question', 'answer', 'when'.*name yours in the configuration"):
        read(parquet(tmp_path, {"question": ["q"], "answer": ["a"], "when": odd["late"][:1]}), SeedRules())
    with pytest.raises(SeedError, match=r"field 'output': missing \(the record holds 'instruction', 'answer'\)"):
        read(parquet(tmp_path, {"instruction": ["q"], "answer": ["a"]}), SeedRules())
    first, second = seeds_or_reasons(parquet(tmp_path, odd), {"response": "bad"})
    assert "field 'bad': a value that cannot be read" in first
    assert second == "x"


def bad_text(values):
    offsets = [0]
    for value in values:
        offsets.append(offsets[-1] + len(value))
    buffers = [None, pa.py_buffer(struct.pack(f"<{len(offsets)}i", *offsets)), pa.py_buffer(b"".join(values))]
    return pa.StringArray.from_buffers(len(values), *buffers[1:])


def seeds_or_reasons(path, fields):
    rules = SeedRules(fields, skip_bad_rows=True)
    return [row.response if isinstance(row, Seed) else row.reason for row in read_seeds(path, path.name, rules)]


@pytest.mark.parametrize("kind", [pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string())])
def test_parquet_texts_of_every_type_are_texts(tmp_path, kind):
    texts = pa.array(["q", "r"]).cast(kind)
    path = parquet(tmp_path, {"instruction": texts, "output": texts})
    assert [seed.instruction for seed in read(path)] == ["q", "r"]


def test_a_cut_parquet_file_is_one_line(tmp_path):
    path = parquet(tmp_path, {"instruction": ["q"] * 1000, "output": [str(n) for n in range(1000)]})
    content = path.read_bytes()
    for cut in (content[:-20], content[: len(content) // 2], content[:200] + bytes(200) + content[400:], b""):
        with pytest.raises(SeedError, match="no valid Parquet"):
            read(written(tmp_path, "b.parquet", cut))


def test_nested_columns_under_another_name_are_read_like_those_under_their_own(tmp_path):
    turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    shared = [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]
    history = [["u", "v"]]
    for ours, value, more in (
        ("messages", turns, {}),
        ("conversations", shared, {}),
        ("conversations", turns, {}),
        ("messages", shared, {}),
        ("history", history, GOOD),
    ):
        found = []
        for theirs in (ours, "something else"):
            record, rules = {**more, theirs: value}, SeedRules({ours: theirs})
            text = io.StringIO()
            table = csv.DictWriter(text, [*record])
            table.writeheader()
            table.writerow({**record, theirs: json.dumps(value)})
            for path in (
                written(tmp_path, "a.jsonl", json.dumps(record)),
                written(tmp_path, "a.csv", text.getvalue()),
                parquet(tmp_path, {name: [held] for name, held in record.items()}),
                parquet(tmp_path, {**{n: [h] for n, h in record.items()}, theirs: [json.dumps(value)]}, "b.parquet"),
            ):
                [seed] = read(path, rules)
                found.append(seed.seed_id)
        assert len(set(found)) == 1
    empty = written(tmp_path, "e.csv", "instruction,output,chat\nq,a,\n")
    assert kinds(empty, SeedRules({"history": "chat"})) == ["Seed"]


def test_every_ending_and_packing_holds_the_same_seeds(tmp_path):
    plain = {
        ".json": f"[{LINE}]",
        ".jsonl": LINE,
        ".ndjson": LINE,
        ".csv": "instruction,output\nq,a\n",
        ".parquet": parquet(tmp_path, {"instruction": ["q"], "output": ["a"]}).read_bytes(),
    }
    found = set()
    for ending in ENDINGS:
        form, _, packing = ending[1:].partition(".")
        content = plain[f".{form}"]
        content = content if isinstance(content, bytes) else content.encode()
        packed = {"": lambda c: c, "gz": gzip.compress, "zst": lambda c: pa.compress(c, "zstd", asbytes=True)}[packing]
        [seed] = read(written(tmp_path, f"x{ending.upper()}", packed(content)))
        found.add(seed.seed_id)
        # who reads the seeds knows the file's hash as well
        path, digest = (
            written(tmp_path, f"z{ending}", packed(content + b" " * 3_000_000 * (form != "parquet"))),
            sha256(),
        )
        assert len(list(read_seeds(path, path.name, SKIP, digest))) >= 1
        assert digest.hexdigest() == sha256(path.read_bytes()).hexdigest()
        if packing:
            with pytest.raises(SeedError, match="cannot be unpacked"):
                read(written(tmp_path, f"y{ending}", packed(content * 1000)[:-9]))
            with pytest.raises(SeedError, match="cannot be unpacked"):
                read(written(tmp_path, f"z{ending}", b"no archive"))
    assert len(found) == 1


def test_a_folder_is_read_with_linked_folders_and_what_is_passed_over_is_told(tmp_path):
    folder = tmp_path / "in"
    for name in ("a.jsonl", "sub/b.ndjson", "notes.txt", ".hidden.jsonl", ".git/c.jsonl", ".DS_Store"):
        written(folder, name, json.dumps({**GOOD, "instruction": name}))
    written(tmp_path / "elsewhere", "d.json", f"[{LINE}]")
    (folder / "linked").symlink_to(tmp_path / "elsewhere")
    (folder / "again").symlink_to(tmp_path / "elsewhere")
    (folder / "sub/circle").symlink_to(folder)
    (folder / "broken.json").symlink_to(folder / "nothing")
    (folder / "self.json").symlink_to(folder / "self.json")
    (folder / "folder.json").mkdir()
    os.mkfifo(folder / "pipe.jsonl")
    told = []
    lake = Lake.at(tmp_path / "lake")
    assert sorted(take_in(lake, [str(folder)], SeedRules(), told.append)) == ["a.jsonl", "b.ndjson", "d.json"]
    [line] = told
    for words in (
        "notes.txt (another ending)",
        ".hidden.jsonl (hidden)",
        "broken.json (no regular file)",
        "pipe.jsonl (no regular file)",
        "self.json (no regular file)",
        ".zst",
    ):
        assert words in line, line
    assert ".DS_Store" not in line
    assert passed_over(lake.seeds) is None
    assert list(would_hold(lake, [str(folder)], SeedRules(), say=told.append))
    assert told == [line, line]


def test_what_cannot_be_taken_in_is_refused_in_one_line(tmp_path):
    lake = Lake.at(tmp_path / "lake")
    os.mkfifo(tmp_path / "pipe.jsonl")
    (tmp_path / "self.json").symlink_to(tmp_path / "self.json")
    written(tmp_path, "only/readme.txt", "x")
    for name, words in (
        (written(tmp_path, ".hidden.jsonl", LINE), "hidden, since its name begins with a dot.*rename"),
        (tmp_path / "pipe.jsonl", "no regular file"),
        (tmp_path / "self.json", "no such file"),
        (tmp_path / "only", r"passed over readme.txt \(another ending\).*no seed files"),
        (written(tmp_path, "a.tsv", LINE), r"format '.tsv'; expected"),
    ):
        with pytest.raises(ConfigError, match=words) as error:
            take_in(lake, [str(name)], SeedRules())
        assert "\n" not in str(error.value)


def test_names_that_are_not_utf8_are_refused_with_their_bytes(tmp_path):
    odd = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.jsonl")
    with open(odd, "w") as file:
        file.write(LINE)
    lake = Lake.at(tmp_path / "lake")
    for paths in ([odd], [str(tmp_path)]):
        with pytest.raises(ConfigError, match=r"caf\\xe9.jsonl: the file's name is not UTF-8.*rename"):
            take_in(lake, paths, SeedRules())
    lake.prepare()
    os.rename(odd, os.fsencode(str(lake.seeds)) + b"/caf\xe9.jsonl")
    assert len(seed_files(lake.seeds)) == 1
    assert content_digest(lake, list_seed_files(lake))
    with pytest.raises(SeedError, match=r"caf\\xe9.jsonl: the file's name is not UTF-8"):
        list(SeedReading(lake, {}, SKIP).seeds())


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is unreadable to the superuser")
def test_what_may_not_be_read_is_one_line(tmp_path):
    path = written(tmp_path / "in", "a.jsonl", LINE)
    path.chmod(0)
    with pytest.raises(SeedError, match=r"a.jsonl: cannot be read \(Permission denied\)"):
        read(path)
    (tmp_path / "in").chmod(0)
    try:
        with pytest.raises(SeedError, match="Permission denied; mend the folder's permissions"):
            seed_files(UPath(tmp_path / "in"))
    finally:
        (tmp_path / "in").chmod(0o700)
