"""The study on recorded answers runs from one command, goes on where it was stopped, and its simulation is exact where that can be seen."""

import json

import numpy as np
import pytest

from star_pipeline_tests.benchmarks.evidence import regret
from star_pipeline_tests.benchmarks.evidence.courses import Arm, Setting, run_course, seeds_of
from star_pipeline_tests.benchmarks.evidence.recorded import read, verdict


@pytest.fixture(scope="module")
def tape(shared_data):
    return shared_data("recorded/alpaca_eval_recorded.jsonl")


def test_the_smoke_study_goes_on_where_it_was_stopped(tape, tmp_path, capsys):
    given = ["--tape", str(tape), "--out", str(tmp_path), "--study", "smoke"]
    regret.main(given)
    said, lines = capsys.readouterr().out, (tmp_path / "runs.jsonl").read_text().splitlines()
    (tmp_path / "runs.jsonl").write_text("\n".join(lines[:-2]) + "\n" + lines[-2][:50])  # stopped while it wrote
    regret.main(given)
    again = [json.loads(line) for line in (tmp_path / "runs.jsonl").read_text().splitlines() if line.endswith("}}")]
    assert capsys.readouterr().out == said
    assert len(again) == len(lines) == 9
    for row in again:
        assert row["calls"] == 2
        assert 0.5 < row["selected"] < row["oracle"] < 1


def test_all_pairs_a_seed_is_the_best_there_is_and_verdicts_need_a_margin(tape):
    matrix, setting = read(tape), Setting(12, 128)
    outcome = run_course(Arm("all", "thompson"), setting, matrix, None, 0)
    expected = np.maximum(matrix.pi.max(axis=1), 0.5)[seeds_of(setting, matrix, 0)]
    assert outcome.selected == pytest.approx(expected)
    assert list(outcome.draws) == [128] * 12
    assert [verdict(0.5, 0.5), verdict(0.9, 0.5), verdict(0.5, 0.9), verdict(0.6, 0.5)] == [0.5, 1.0, 0.0, 0.5]
