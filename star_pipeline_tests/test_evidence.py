"""The study on recorded answers runs from one command, goes on where it was stopped, and its simulation is exact where that can be seen."""

import json
import re

import numpy as np
import pytest
import yaml

from star_pipeline.adapters.progress import SilentProgress
from star_pipeline_tests.benchmarks.evidence import lent, parts, real_models, regret, tuned
from star_pipeline_tests.benchmarks.evidence.courses import Arm, Setting, run_course, seeds_of
from star_pipeline_tests.benchmarks.evidence.recorded import read, verdict
from star_pipeline_tests.tiny_models import save_gpt_neox


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


@pytest.mark.slow
def test_scores_and_tuning_run_from_their_configuration_and_are_not_made_twice(tape, shared_data, tmp_path, capsys):
    """With tiny models in the real ones' place, which no test can bring along: all but the sizes is real_models.yaml's."""
    wanted = yaml.safe_load(real_models.SETTINGS.read_text())
    wanted["sizes"] |= {"seeds": 4, "held_out": 3, "fastchat": 3, "longest": 40}
    wanted["pipeline"]["sampling"]["shard_size"] = 2
    wanted["pipeline"]["study"] |= {"arms": ["seeds", "judge"], "seeds": [0]}
    (tmp_path / "smoke.yaml").write_text(yaml.safe_dump(wanted))
    texts = [row["instruction"] for row in map(json.loads, tape.read_text().splitlines())]
    for number, name in enumerate(("small", "large")):
        save_gpt_neox(tmp_path / name, texts, seed=number, hidden=32 + 16 * number, layers=2)
    given = ["--tape", str(tape), "--fastchat", str(shared_data("fastchat")), "--out", str(tmp_path / "out")]
    given += [word for name in ("small", "large") for word in (f"--{name}", str(tmp_path / name))]
    given += ["--settings", str(tmp_path / "smoke.yaml")]
    real_models.main(given, SilentProgress())
    said, scores = capsys.readouterr().out, (tmp_path / "out/scores.jsonl").read_text()
    models = tmp_path / "out/lake/study/models"
    weights = {path: path.stat().st_mtime_ns for path in models.rglob("*.safetensors")}
    real_models.main(given, SilentProgress())
    assert capsys.readouterr().out == said
    assert (tmp_path / "out/scores.jsonl").read_text() == scores
    assert {path: path.stat().st_mtime_ns for path in models.rglob("*.safetensors")} == weights
    rows = [json.loads(line) for line in scores.splitlines()]
    assert len(rows) == 4 * 11
    assert not any(text[:40] in scores for text in texts)  # numbers alone
    assert re.search(r"\| judge \| [3-6] \| all \| 4 \| \d+ \| [\d.]+ \| [-+][\d.]+ \(", said)

    found = parts.scored(tape, tmp_path / "out/scores.jsonl")
    for row in rows:  # π_llm and π_dual of the simulation are the product's
        at = found.rows[(found.rows["seed"] == row["seed"]) & (found.rows["pair"] == row["pair"])].iloc[0]
        assert row["pi_llm"] is None or at["judged"] == row["pi_llm"]
        assert at["rank"] == pytest.approx(row["pi_dual"], nan_ok=True)
    given = ["--tape", str(tape), "--scores", str(tmp_path / "out/scores.jsonl"), "--out", str(tmp_path / "out")]
    parts.main([*given, "--runs", "1", "--seeds", "64"])
    assert "without judge" in capsys.readouterr().out

    wanted = yaml.safe_load(tuned.SETTINGS.read_text())  # the whole tape by the shorter way, with the same models
    wanted["sizes"] |= {"seeds": 3, "held_out": 2, "fastchat": 2, "longest": 40}
    wanted["tuned"] |= {"arms": ["seeds", "star"], "seeds": [0], "rates": [1e-3], "measure": "float32", "processes": 1}
    wanted["pipeline"]["scoring"] |= {"max_length": 128, "device": "cpu"}
    wanted["pipeline"]["study"]["tune"] |= {"max_length": 112, "epochs": 1, "device": "cpu"}
    (tmp_path / "tuned.yaml").write_text(yaml.safe_dump(wanted))
    out = tmp_path / "tuned"
    given = ["--tape", str(tape), "--fastchat", str(shared_data("fastchat")), "--out", str(out)]
    given += [word for name in ("small", "large") for word in (f"--{name}", str(tmp_path / name))]
    given += ["--settings", str(tmp_path / "tuned.yaml")]
    tuned.main(given, SilentProgress())
    told = capsys.readouterr().out
    scored = {
        (row["seed"], row["pair"]): row for row in map(json.loads, (out / "scores.jsonl").read_text().splitlines())
    }
    both = [(row, scored[key]) for row in rows if (key := (row["seed"], row["pair"])) in scored]
    assert both
    for row, other in both:  # as the product's run has them
        assert other["gap"] == pytest.approx(row["gap"], abs=1e-4, nan_ok=True)
        assert row["pi_llm"] is None or other["pi_llm"] == row["pi_llm"]
    files = sorted((out / "trained").glob("*.json"))
    made = [file.stat().st_mtime_ns for file in files]
    assert len(re.findall(r"small less large", told)) == 2
    assert re.search(r"\| without judge \| [1-3] \|", told)
    tuned.main([*given, "--part", "train"], SilentProgress())
    assert [file.stat().st_mtime_ns for file in sorted((out / "trained").glob("*.json"))] == made
    assert told.endswith(capsys.readouterr().out.partition("\n|")[2][-200:])
    assert not any(text[:40] in file.read_text() for file in files for text in texts)


@pytest.mark.slow
def test_gaps_of_few_answers_are_lent_by_length_alone_and_the_parts_go_on_where_they_were_stopped(
    tape, tmp_path, capsys
):
    rows = [row for row in map(json.loads, tape.read_text().splitlines()) if len(row["answers"]) == 13][:4]
    draw = np.random.default_rng(0)
    for name, asked in zip(("small", "large"), lent.ASKED, strict=True):
        with (tmp_path / name).open("w") as file:
            for row in rows:
                for llm in row["answers"]:
                    for way in ("alone", asked):
                        told = {"kind": "answer", "group": row["instruction"], "name": llm, "win": 0.5, "way": way}
                        file.write(json.dumps({**told, "losses": list(draw.random(5))}) + "\n")
    given = [tmp_path / "small", tmp_path / "large"]
    scored = lent.scored_answers(tape, *given)
    matrix, lengths = read(tape), np.array([[10.0, 200.0, np.nan]])
    found = lent.lent(matrix, lengths, scored, 0)

    assert [found[rule][0, 2] for rule in ("none", "rank")] == [0, 0]  # no answer, no gap
    assert all(0 <= value <= 1 for rule in found for value in found[rule].ravel())

    options = ["--tape", str(tape), "--lent", *map(str, given), "--out", str(tmp_path), "--runs", "1", "--seeds", "64"]
    parts.main(options)
    first, kept = capsys.readouterr().out, tmp_path / "parts.jsonl"
    lines = kept.read_text().splitlines()
    kept.write_text("\n".join(lines[:-1]) + "\n" + lines[-1][:30])
    parts.main(options)
    assert capsys.readouterr().out == first
    assert sorted(kept.read_text().splitlines()) == sorted(lines)
    by_way = {row["way"]: row for row in map(json.loads, lines)}
    assert by_way["without gap"]["pi"] == by_way["without gap"]["pi_llm"]  # the judge alone sees what it is measured by
    assert by_way["without judge, rank"]["pi_llm"] < by_way["without gap"]["pi_llm"]
