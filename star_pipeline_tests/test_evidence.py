"""The study on recorded answers runs from one command, goes on where it was stopped, and its simulation is exact where that can be seen."""

import json
import re

import numpy as np
import pandas as pd
import pytest
import yaml

from star_pipeline.adapters.progress import SilentProgress
from star_pipeline.core.equations import calibration
from star_pipeline_tests.benchmarks.evidence import (
    gaps,
    parts,
    prepared,
    real_models,
    regret,
    selected,
    tuned,
    tuned_tables,
    whole_tape,
)
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
    wanted["sizes"] |= {"seeds": 4, "held_out": 3, "fastchat": 3, "longest": 32}
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

    found = gaps.scored(tape, tmp_path / "out/scores.jsonl")
    for row in rows:  # π_llm and π_dual of the simulation are the product's
        at = found.rows[(found.rows["seed"] == row["seed"]) & (found.rows["pair"] == row["pair"])].iloc[0]
        assert row["pi_llm"] is None or at["judged"] == row["pi_llm"]
        assert at["rank"] == pytest.approx(row["pi_dual"], nan_ok=True)

    wanted = yaml.safe_load(tuned.SETTINGS.read_text())  # the whole tape by the shorter way, with the same models
    wanted["sizes"] |= {"seeds": 3, "held_out": 2, "fastchat": 2, "longest": 32}
    wanted["tuned"] |= {
        "arms": ["seeds", "star rank"],
        "more_arms": [],
        "parts": ["without judge"],
        "seeds": [0],
        "rates": [1e-3],
        "vocabulary": "used",
        "instructions_apart": 2,
        "measure": "float32",
        "processes": 1,
    }
    wanted["pipeline"]["scoring"] |= {"max_length": 128, "device": "cpu"}
    batches = {"batch_size": 1, "device_batch_size": 1}  # more updates than the one whose rate is still 0
    wanted["pipeline"]["study"]["tune"] |= {"max_length": 112, "epochs": 1, "device": "cpu", **batches}
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
    selected.main(["--tape", str(tape), "--out", str(out), "--settings", str(tmp_path / "tuned.yaml")])
    assert re.search(r"from random .*\n\|[-|]+\n\| judge \|", capsys.readouterr().out)  # what it is measured by
    files = sorted((out / "trained").glob("*.json"))
    made = [file.stat().st_mtime_ns for file in files]
    means = {
        (row["target"], row["arm"]): np.mean([loss[2] for loss in row["losses"] if loss[2] is not None])
        for row in map(json.loads, (file.read_text() for file in files))
    }
    for (target, arm), value in means.items():
        assert (value != means[target, "untuned"]) == (arm != "untuned")
    assert len(re.findall(r"small less large", told)) == 2
    assert re.search(r"\| without judge \| [12] \|", told)
    for name in ("small", "large"):
        whole = re.search(rf"{name}: (\d+) of (\d+) tokens kept", told)
        assert whole
        assert int(whole[1]) < int(whole[2])
    tuned.main([*given, "--part", "train"], SilentProgress())
    assert [file.stat().st_mtime_ns for file in sorted((out / "trained").glob("*.json"))] == made
    assert told.endswith(capsys.readouterr().out.partition("\n|")[2][-200:])
    assert not any(text[:40] in file.read_text() for file in files for text in texts)


def test_what_length_alone_explains_is_told_apart_from_what_is_left(tape):
    draw = np.random.default_rng(0)
    rows = pd.DataFrame({
        "seed": np.repeat([f"{n}" for n in range(60)], 11), "n_tokens": draw.integers(1, 400, 660), "odds": draw.random(660)
    })  # fmt: skip  # one table
    rows["short"], rows["good"] = -rows["n_tokens"], rows["odds"]
    alike = gaps.each(rows, ("short", "n_tokens"))
    assert alike == pytest.approx([-1.0] * 60)
    assert gaps.within(alike - gaps.placebo(rows, "short", "n_tokens")).figure == pytest.approx(0, abs=0.02)
    assert gaps.within(gaps.placebo(rows, "good", "odds")).figure == pytest.approx(0, abs=0.02)
    assert np.isnan(gaps.each(rows.assign(same=1.0), ("same", "odds"))).all()


def test_parts_go_on_where_they_were_stopped_and_the_judge_alone_sees_what_it_is_measured_by(tape, tmp_path, capsys):
    rows = prepared.usable([json.loads(line) for line in tape.read_text().splitlines()], 60)[:24]
    draw, file = np.random.default_rng(0), tmp_path / "scores.jsonl"
    told = [
        {
            "seed": whole_tape.name_of(row), "pair": f"keep+{name}", "slot": slot, "truncated": False, "shard": f"{n // 12}",
            "n_tokens": int(draw.integers(1, 99)), "ifd_small": draw.random(), "ifd_large": draw.random(), "nll_given": 1.0,
        }
        for n, row in enumerate(rows) for slot, name in enumerate(whole_tape.NAMES)
    ]  # fmt: skip  # a line an answer
    file.write_text("\n".join(json.dumps({**row, "gap": row["ifd_small"] - row["ifd_large"]}) for row in told))
    np.save(tmp_path / f"instructions-{len(rows)}.npy", draw.normal(size=(len(rows), 8)))
    options = ["--tape", str(tape), "--scores", str(file), "--out", str(tmp_path), "--runs", "1", "--seeds", "64"]
    parts.main(options)
    first, kept = capsys.readouterr().out, tmp_path / "parts.jsonl"
    lines = kept.read_text().splitlines()
    kept.write_text("\n".join(lines[:-1]) + "\n" + lines[-1][:30])
    parts.main(options)
    assert capsys.readouterr().out == first
    assert sorted(kept.read_text().splitlines()) == sorted(lines)
    by_way = {row["way"]: row for row in map(json.loads, lines)}
    assert by_way["without gap"]["pi"] == by_way["without gap"]["pi_llm"]
    for rule in gaps.RULES:
        assert by_way[f"without judge, {rule}"]["pi_llm"] < by_way["without gap"]["pi_llm"]

    found = gaps.scored(tape, file)
    for rule in gaps.RULES:  # shard by shard, as the product calibrates
        shard = found.rows[found.rows["shard"] == "1"]
        expected = calibration.ranked_gaps(
            list(shard["ifd_small"]), list(shard["ifd_large"]), list(shard["n_tokens"]), rule
        )
        raw = shard["ifd_small"] - shard["ifd_large"]
        assert list(shard[f"gap {rule}"]) == pytest.approx(list(raw if rule == "none" else expected))


def test_tables_tell_every_pair_of_arms_over_questions_and_over_training_seeds():
    draw = np.random.default_rng(0)
    base, jobs, found = draw.random(40), [], {}
    apart = {
        "even": (0.0, 0.0, 0.0),
        "better": (-0.1, -0.11, -0.09),
        "either way": (0.3, -0.1, 0.15),
        "half": (0.2, 0.2),
    }
    for arm, by_seed in apart.items():
        for seed in range(3):
            name = f"{arm} {seed}"
            jobs.append(
                {"study": "selection", "arm": arm, "target": "small", "seed": seed, "trained": name, "characters": 70}
            )
            if seed < len(by_seed):
                losses = base + by_seed[seed] + draw.normal(0, 0.01, 40)
                rows = [[f"q{n}", "tape" if n < 20 else "other", value, 9] for n, value in enumerate(losses)]
                found[name] = {"rows": 7, "taught_tokens": 20, "losses": rows}
    said = "\n".join(tuned_tables.tables(jobs, found))
    assert "3 training seeds; not trained with all of them, and left out: half" in said
    assert "| better | 7 | 20 | 70 | 40 |" in said
    row = next(line for line in said.splitlines() if line.startswith("| better less even "))
    difference, by_seed, _, _, _, shown = [cell.strip() for cell in row.split("|")[2:-1]]
    assert [float(word) for word in re.findall(r"[\d.]+", difference)] == pytest.approx([0.1] * 3, abs=0.01)
    assert [float(word) for word in re.findall(r"[\d.]+", by_seed)] == pytest.approx([0.125, 0.075], abs=0.01)
    assert shown == "yes"
    assert re.search(r"\| either way less even \| \+0.1.* \| seeds disagree \|", said)
