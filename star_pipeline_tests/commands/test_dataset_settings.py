"""What the settings under ``dataset`` let through, on a lake that is run with fakes: evaluation questions, and how many rows."""

import json

import pytest

from star_pipeline.adapters.dataset_files import read_manifest
from star_pipeline.commands.run import RunFailed
from star_pipeline.config import load_config
from star_pipeline.core import tables
from star_pipeline.core.errors import SeedError
from star_pipeline_tests.commands.test_run import Lakeside, summary_of
from star_pipeline_tests.conftest import seed_rows

BENCH = [
    {
        "question_id": 81,
        "category": "writing",
        "turns": ["Compose a letter to a lighthouse keeper who has not seen another ship for forty years.", "Why?"],
        "reference": ["", "Because the light went out in the winter of that year and nobody came to look after it."],
    },
    {"question_id": 82, "category": "maths", "turns": ["What is 7 times 8?"]},
]
PLANTED = [
    {"instruction": "Please: " + BENCH[0]["turns"][0].upper(), "output": "Dear keeper."},
    {"instruction": "what is 7 TIMES 8", "output": "56"},
    {"instruction": "Tell me of a light.", "output": f"It is so. {BENCH[0]['reference'][1]}"},
]


@pytest.fixture
def side(tmp_path):
    made = Lakeside(tmp_path)
    made.seeds([*seed_rows(6), *PLANTED])
    (tmp_path / "bench.jsonl").write_text("".join(json.dumps(row) + "\n" for row in BENCH))
    return made


def published(side):
    return side.lake.read_table(tables.STAR_DATASET)


def shard_files(side):
    return {name: content for name, content in side.files().items() if name.count("/") == 2}


def test_planted_questions_do_not_reach_the_data_set_and_are_told_everywhere(side):
    side.run()
    whole, before = published(side), shard_files(side)
    assert len(whole) == 9
    side.configure(dataset={"decontaminate": ["bench.jsonl"]})
    outcome = side.run()
    assert (outcome.published, outcome.shards, side.asked) == (True, (), 0)
    assert shard_files(side) == before
    left_out = side.lake.read_table(tables.LEFT_OUT_ROWS)
    entries = {row.seed_id: row for row in side.lake.read_table(tables.SEED_CATALOG)}
    assert {entries[row.seed_id].source_row for row in left_out} == {7, 8, 9}
    assert {row.reason for row in left_out} == {"overlap"}
    said = {entries[row.seed_id].source_row: row.detail for row in left_out}
    assert "question 81 of bench.jsonl: compose a letter to a lighthouse keeper" in said[7]
    assert "question 82 of bench.jsonl: what is 7 times 8 (dataset.decontaminate)" in said[8]
    assert "the reference answer to question 81 of bench.jsonl" in said[9]
    assert {row.seed_id for row in published(side)} == {row.seed_id for row in whole} - {r.seed_id for r in left_out}
    assert "3 left out by the settings under dataset (3 overlap)" in summary_of(side, outcome)
    card, manifest = side.lake.dataset_card.read_text("utf-8"), read_manifest(side.lake)
    assert "shares 13 words in a row with a question or reference answer of bench.jsonl" in card
    assert "| overlap | 3 |" in card
    [named] = manifest["decontaminate"]
    assert (named["file"], len(named["sha256"])) == ("bench.jsonl", 64)
    assert str(side.config.parent) not in side.lake.dataset_manifest.read_text("utf-8")
    assert "3 left out" in side.lake.report.read_text("utf-8")
    assert "(dataset.decontaminate)" in side.lake.report.read_text("utf-8")
    assert side.run().idle
    # exactly so many of what is left, of each domain its best; more than there are is said
    rows = published(side)
    side.configure(dataset={"decontaminate": ["bench.jsonl"], "rows": 4})
    outcome = side.run()
    assert (side.asked, len(published(side)), outcome.warnings) == (0, 4, ())
    assert "5 left out by the settings under dataset (3 overlap, 2 rows)" in summary_of(side, outcome)
    assert "of those at most 4, the best by π of each domain, in proportion" in side.lake.dataset_card.read_text(
        "utf-8"
    )
    side.configure(dataset={"decontaminate": ["bench.jsonl"], "rows": 40})
    outcome = side.run()
    assert published(side) == rows
    [warning] = outcome.warnings
    assert "dataset.rows asks for 40 rows, and 6 are to be had; left out: 3 by overlap; add seeds" in warning
    # shares by domain, which are met where there are rows for them
    domain = {row.seed_id: row.domain_name for row in side.lake.read_table(tables.TASK_DOMAINS)}
    [name] = {*domain.values()}
    side.configure(dataset={"decontaminate": ["bench.jsonl"], "rows": 4, "domain_shares": {name: 0.75}})
    outcome = side.run()
    assert (side.asked, len(published(side))) == (0, 3)
    [warning] = outcome.warnings
    assert (
        "dataset.rows asks for 4 rows, and 3 are to be had; left out: 3 by rows, 3 by overlap; by dataset.domain_shares the other"
        in warning
    )
    assert f"by these shares: {name} 75%; the others" in side.lake.dataset_card.read_text("utf-8")
    assert read_manifest(side.lake)["dataset"]["domain_shares"] == {name: 0.75}
    side.configure(dataset={"decontaminate": ["bench.jsonl"], "rows": 4, "domain_shares": {"maths": 0.5}})
    with pytest.raises(RunFailed, match=f"dataset.domain_shares: 'maths' is no task domain; expected .*: {name}"):
        side.run()
    side.configure(dataset={"decontaminate": ["bench.jsonl"]})
    # other questions under the same name
    (side.config.parent / "bench.jsonl").write_text(json.dumps(BENCH[1]) + "\n")
    outcome = side.run()
    assert (outcome.published, side.asked, len(published(side))) == (True, 0, 8)


def test_a_file_that_is_not_there_is_told_before_anything_is_paid(side):
    asked = []
    side.configure(dataset={"decontaminate": ["benhc.jsonl"]})
    with pytest.raises(SeedError, match=r"benhc\.jsonl: no such file; expected a file"):
        side.run(lambda request: asked.append(request) or "reply")
    assert asked == []


def test_what_is_published_keeps_its_fingerprint_where_the_key_is_not_set():
    assert (
        load_config("offline").dataset_fingerprint
        == load_config("offline", {"dataset": {"decontaminate": ["a.jsonl"]}}).dataset_fingerprint
    )
    assert (
        load_config("offline").fingerprint
        == load_config("offline", {"dataset": {"decontaminate": ["a.jsonl"]}}).fingerprint
    )


REAL = ("fastchat/mt_bench_question.jsonl", "fastchat/vicuna_bench_question.jsonl", "wizardlm/WizardLM_testset.jsonl")


def test_no_question_of_the_real_benchmarks_gets_through(shared_data, tmp_path):
    paths = [shared_data(name) for name in REAL]
    raw = [[json.loads(line) for line in path.read_text("utf-8").splitlines() if line.strip()] for path in paths]
    assert [len(rows) for rows in raw] == [80, 80, 112]
    asked = {turn for rows in raw for row in rows for turn in row.get("turns", [row.get("Instruction")])}
    side = Lakeside(tmp_path)
    drawn = {"pairs_per_seed": 0, "from_memory": 0, "shard_size": 1000}
    side.configure(dataset={"decontaminate": list(map(str, paths))}, sampling=drawn)
    side.seeds([*seed_rows(5), *({"instruction": text, "output": "An answer."} for text in sorted(asked))])
    side.run()
    assert sorted(row.source_row for row in published(side)) == [1, 2, 3, 4, 5]
    assert len(side.lake.read_table(tables.LEFT_OUT_ROWS)) == len(asked)


def test_machines_that_were_allowed_to_differ_are_said_in_the_published_card_and_manifest(tmp_path):
    side = Lakeside(tmp_path)
    side.seeds(seed_rows(3))
    side.lake.root.mkdir(parents=True, exist_ok=True)
    probes = {"m in float32 on cpu": {"losses": [1.0], "difference": 3.1e-5}, "embedding e": {"vectors": "sha256:0"}}
    side.lake.numerics.write_text(json.dumps({"dtype": "float32", "device": "cpu", "threads": 1, "probes": probes}))
    side.run()
    card, told = side.lake.dataset_card.read_text("utf-8"), read_manifest(side.lake)["numerics"]
    assert "same to the last bit scored under m in float32 on cpu: mean losses of one text differ" in card
    assert "by up to 3.1e-05 nats" in card
    assert told == {"dtype": "float32", "device": "cpu", "threads": 1, "differences": {"m in float32 on cpu": 3.1e-5}}
