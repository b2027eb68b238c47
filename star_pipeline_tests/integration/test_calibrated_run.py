"""A run with calibrated gaps, a least length, another start, a template of one model's own and Thompson sampling: real models, tables and
Dagster."""

import json

import duckdb
import pytest

from star_pipeline.core import tables
from star_pipeline.core.equations.calibration import calibrated
from star_pipeline_tests.conftest import CONFIG, say, seed_rows
from star_pipeline_tests.integration.test_loop_with_fakes import Loop
from star_pipeline_tests.oracle import disagreements
from star_pipeline_tests.tiny_models import save_gpt_neox

pytestmark = pytest.mark.slow


def brief(request):
    """Every third answer is a word or two."""
    text = say(request)
    return text[:9] if request.template == "respond" and len(text) % 3 == 0 else text


@pytest.fixture(scope="module", params=["rank_by_length"])
def made(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("calibrated")
    texts = [row["instruction"] + row["output"] for row in seed_rows(9)]
    for name, seed, width in (("small", 0, 16), ("large", 1, 32)):
        save_gpt_neox(folder / name, texts, seed=seed, hidden=width, layers=1)
    scoring = {
        "small": str(folder / "small"),
        "large": {"model": str(folder / "large"), "template": "alpaca"},
        "template": "plain",
        "start": "newline",
        "calibration": request.param,
        "least_tokens": 12,
        "dtype": "float32",
        "device": "cpu",
    }
    config = folder / "config.yaml"
    sampling = {**CONFIG["sampling"], "shard_size": 9}
    config.write_text(json.dumps({**CONFIG, "scoring": scoring, "sampling": sampling, "evolution": {"floor": 0.01}}))
    loop = Loop(folder, config, script=brief, real=("scorer",))
    loop.write_seeds(seed_rows(9))
    loop.all()
    yield loop, config, request.param
    loop.instance.dispose()


def test_an_independent_program_agrees(made):
    loop, config, _ = made
    assert disagreements(loop.lake.root, config) == []


def test_both_gaps_are_kept_and_what_follows_works_on_the_calibrated_one(made):
    loop, _, rule = made
    [shard] = loop.shards
    scores = loop.read(tables.IFD_SCORES, shard)
    assert {row.status for row in scores} >= {"ok", "too_short"}
    assert all((row.gap is None) == (row.gap_calibrated is None) == (row.status != "ok") for row in scores)
    assert all(row.ifd_small is not None for row in scores if row.status == "too_short")
    assert calibrated(scores, rule) == scores
    gap_of = {row.candidate_id: row for row in scores}
    verdicts = loop.read(tables.JUDGE_VERDICTS, shard)
    # it differs from what raw gaps would ask
    assert any((row.gap or 0) * (row.gap_calibrated or 0) < 0 for row in scores)
    for row in verdicts:
        gap = gap_of[row.candidate_id].gap_calibrated
        assert (row.verdict == "skipped") == (gap is None or gap <= 0)
    for row in loop.read(tables.COMPOSITE_SCORES, shard):
        score = gap_of[row.candidate_id]
        assert (row.gap, row.gap_calibrated) == (score.gap, score.gap_calibrated)
        assert (row.pi_dual is None) == (score.gap is None)
        if score.status == "too_short":
            assert (row.pi, row.rank, row.selection == "best") == (None, None, False)


def test_the_queries_tell_of_both(made):
    loop, *_ = made
    with duckdb.connect(str(loop.lake.inspection), read_only=True) as database:
        ask = lambda sql: database.execute(sql).fetchall()  # noqa: E731
        assert ask("SELECT count(*) FROM lineage WHERE why LIKE '%too short for a gap%'")[0][0] > 0
        [(positive,)] = ask("SELECT count(*) FROM ifd_scores WHERE gap_calibrated > 0")
        assert ask("SELECT rows FROM funnel WHERE step = 4") == [(positive,)]
        assert ask("SELECT sum(positive) FROM gap_by_pair") == [(positive,)]
        unlike = "why LIKE '%gap is not positive%' AND gap_calibrated > 0"
        assert ask(f"SELECT count(*) FROM lineage WHERE {unlike}") == [(0,)]


def test_a_lake_without_the_column_is_read_and_works_on_its_raw_gaps(made, tmp_path):
    loop, *_ = made
    [shard] = loop.shards
    for spec in (tables.IFD_SCORES, tables.COMPOSITE_SCORES):
        old = loop.lake.read_arrow(spec, shard).drop_columns(["gap_calibrated"])
        rows = spec.from_arrow(old)
        assert {row.gap_calibrated for row in rows} == {None}
        assert [row.gap for row in rows] == [row.gap for row in loop.read(spec, shard)]
    assert [
        row.working_gap for row in tables.IFD_SCORES.from_arrow(loop.lake.read_arrow(tables.IFD_SCORES, shard))
    ] != [row.gap for row in loop.read(tables.IFD_SCORES, shard)]
