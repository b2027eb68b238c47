"""``star-pipeline score`` as its users call it: the console script, real small models, real kills."""

import json
import math
import os
import shutil
import signal
import subprocess

import pyarrow.parquet as pq
import pytest
import scipy.stats

from star_pipeline.adapters.lake import Lake
from star_pipeline.adapters.progress import SilentProgress
from star_pipeline.commands.score import score_file
from star_pipeline.config import load_config
from star_pipeline.core.equations.ifd_templates import prompt_text
from star_pipeline.core.tables import IFD_SCORES
from star_pipeline_tests.adapters.scoring.one_by_one import OneByOne
from star_pipeline_tests.program import star, stopped_after
from star_pipeline_tests.tiny_models import save_model

pytestmark = pytest.mark.slow

ROWS = [
    {"instruction": "Write a poem", "input": "", "output": "The sea is wide and blue."},
    {"instruction": "Sort", "input": "3 1 2", "output": "1 2 3"},
    {"instruction": "empty", "input": "", "output": ""},
    {"instruction": "", "input": "", "output": "An answer to nothing."},
    {"instruction": "one token", "input": "", "output": "x"},
    {"instruction": "spaces", "input": "", "output": "     "},
    {"instruction": "emoji", "input": "", "output": "🎉🎊👩‍👩‍👧‍👦"},
    {"instruction": "long", "input": "", "output": "word " * 6000},
    {"instruction": "very long prompt " * 300, "input": "", "output": "answer"},
    {"instruction": "specials", "input": "", "output": "text <|endoftext|> more </s>"},
    {"instruction": "rtl", "input": "", "output": "שלום עולם"},
    {"instruction": "code:\n```", "input": "", "output": "```python\nprint(1)\n```"},
    {"instruction": "Sort", "input": "3 1 2", "output": "1 2 3"},
]
MANY = [{**ROWS[0], "output": f"{n} words " * (n % 60 + 1)} for n in range(700)]
STATUSES = {2: "empty_response", 8: "prompt_too_long"}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    texts = [row["output"][:200] for row in ROWS if row["output"]] * 3
    folders = [tmp_path_factory.mktemp(name) for name in ("small", "large")]
    save_model(folders[0], "gpt2", texts, seed=1, hidden=16, layers=1, context=256)
    save_model(folders[1], "llama", texts, seed=2, hidden=32, layers=2, context=256)
    return folders


def score(folder, models, *options, rows=ROWS, source="rows.json", stops_after=""):
    """Exit code, output and errors; or the command itself, which has stopped once a part of this phase is there."""
    (folder / source).write_text(json.dumps(rows), "utf-8")
    command = ["score", source, "scores.parquet", *options]
    for option, model in zip(("--small", "--large"), models, strict=True):
        command += [] if option in options else [option, str(model)]
    environment = {**os.environ, "STAR_LAKE": str(folder)}
    if stops_after:
        part, pipes = (
            rf"/\.scores\.parquet\.parts/{stops_after}-",
            {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE},
        )
        return stopped_after(part, *command, cwd=folder, env=environment, **pipes)
    done = star(*command, cwd=folder, env=environment)
    return done.returncode, done.stdout, done.stderr


def test_a_row_a_record_in_its_order_with_a_value_or_a_status(tmp_path, models):
    code, out, err = score(tmp_path, models, "--max-length", "200")
    assert (code, err) == (0, "")
    assert "11 of 13 records, 1 cut to fit" in out
    table = pq.read_table(tmp_path / "scores.parquet")
    assert table.column_names == IFD_SCORES.schema.names
    rows = table.to_pylist()
    assert [row["status"] for row in rows] == [STATUSES.get(n, "ok") for n in range(len(ROWS))]
    assert len({row["candidate_id"] for row in rows}) == len(rows)
    assert rows[1]["seed_id"] == rows[12]["seed_id"]
    for name, folder in zip(("small", "large"), models, strict=True):
        plain = OneByOne(folder)
        for number, (row, source) in enumerate(zip(rows, ROWS, strict=True)):
            values = [row[f"{value}_{name}"] for value in ("n_tokens", "nll_given", "nll_alone", "ifd")]
            if number in STATUSES:
                assert values == [None] * 4
            elif not row["truncated"]:
                instruction = "\n".join(filter(None, (source["instruction"], source["input"])))
                count, given, alone = plain.losses(prompt_text("alpaca", None, (), instruction), source["output"])
                losses = [pytest.approx(x, rel=1e-6) for x in (given, alone)]
                assert values == [count, *losses, pytest.approx(math.exp(given - alone), rel=1e-5)]
    assert rows[7]["truncated"]
    assert not [path.name for path in tmp_path.iterdir() if path.name not in ("rows.json", "scores.parquet")]


def test_calibrated_gaps_are_of_ranks_in_the_whole_file(tmp_path, models):
    (tmp_path / "rows.json").write_text(json.dumps(ROWS), "utf-8")
    named = dict(zip(("small", "large"), map(str, models), strict=True))

    def scored(**knobs):
        config = load_config("offline", {"scoring": {**named, "max_length": 200, **knobs}})
        outcome = score_file(
            str(tmp_path / "rows.json"), str(tmp_path / "s.parquet"), config, Lake.at(tmp_path), SilentProgress()
        )
        return IFD_SCORES.from_arrow(pq.read_table(tmp_path / "s.parquet")), outcome.fresh

    plain, _ = scored()
    ranked, fresh = scored(calibration="rank", least_tokens=4)
    assert fresh
    assert [row.gap_calibrated for row in plain] == [None] * len(ROWS)
    short = [row.ifd_small is not None and min(row.n_tokens_small, row.n_tokens_large) < 4 for row in plain]
    assert [row.status == "too_short" for row in ranked] == short
    assert sum(short) >= 1
    kept = [row for row in plain if row.ifd_small is not None and min(row.n_tokens_small, row.n_tokens_large) >= 4]
    small, large = (
        [(scipy.stats.rankdata([getattr(row, name) for row in kept]) - 0.5) / len(kept)][0]
        for name in ("ifd_small", "ifd_large")
    )
    assert [row.gap_calibrated for row in ranked if row.gap is not None] == pytest.approx(small - large)
    assert scored(calibration="rank", least_tokens=4) == (ranked, False)
    assert scored() == (plain, True)


def test_asked_again_it_does_nothing_and_another_setting_scores_anew(tmp_path, models):
    score(tmp_path, models)
    before = (tmp_path / "scores.parquet").stat().st_mtime_ns
    assert "nothing to do" in score(tmp_path, models)[1]
    assert (tmp_path / "scores.parquet").stat().st_mtime_ns == before
    assert "nothing to do" not in score(tmp_path, models, "--template", "plain")[1]
    assert (tmp_path / "scores.parquet").stat().st_mtime_ns > before


def test_replaced_weights_are_scored_anew_also_by_a_command_that_goes_on(tmp_path, models):
    many = MANY
    texts = [row["output"][:200] for row in ROWS if row["output"]] * 3
    mine = [tmp_path / "a", tmp_path / "b"]
    for here, there in zip(mine, models, strict=True):
        shutil.copytree(there, here)
    run = score(tmp_path, mine, rows=many, stops_after="small")
    run.send_signal(signal.SIGKILL)
    run.wait()
    save_model(tmp_path / "a", "gpt2", texts, seed=9, hidden=16, layers=1, context=256)
    code, out, err = score(tmp_path, mine, rows=many)
    assert code == 0
    assert "going on after" not in out
    assert "an interrupted command began with other weights" in err
    scores = pq.read_table(tmp_path / "scores.parquet")
    save_model(tmp_path / "a", "gpt2", texts, seed=10, hidden=16, layers=1, context=256)
    code, out, err = score(tmp_path, mine, rows=many)
    assert "nothing to do" not in out
    assert "was made with other weights" in err
    again = pq.read_table(tmp_path / "scores.parquet")
    assert again["ifd_small"] != scores["ifd_small"]
    assert again["ifd_large"] == scores["ifd_large"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory, models):
    """The scores of many rows by a command that nobody killed."""
    folder = tmp_path_factory.mktemp("whole")
    assert score(folder, models, rows=MANY)[0] == 0
    return pq.read_table(folder / "scores.parquet")


@pytest.mark.parametrize("phase", ["small", "large"])
def test_killed_it_goes_on_where_it_was(phase, tmp_path, models, whole):
    many = MANY
    run = score(tmp_path, models, rows=many, stops_after=phase)
    run.send_signal(signal.SIGKILL)
    run.wait()
    assert list(tmp_path.glob(f".scores.parquet.parts/{phase}-*"))
    assert not (tmp_path / "scores.parquet").exists()
    code, out, _ = score(tmp_path, models, rows=many)
    assert code == 0
    assert "going on after" in out
    assert pq.read_table(tmp_path / "scores.parquet").equals(whole)


def test_a_second_one_on_the_same_output_is_refused(tmp_path, models):
    many = [{**ROWS[0], "output": f"{n} words " * 60} for n in range(700)]
    first = score(tmp_path, models, rows=many, stops_after="small")
    code, _, err = score(tmp_path, models, rows=many)
    assert (code, err.count("\n")) == (1, 1)
    assert "another star-pipeline score writes it" in err
    first.send_signal(signal.SIGTERM)
    first.send_signal(signal.SIGCONT)
    first.communicate()
    assert first.returncode == 130


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"rows": [{"instruction": "x"}]}, ["rows.json, row 1, field 'output'", "missing"]),
        ({"source": "rows.txt"}, ["rows.txt", "expected .json"]),
        ({"rows": []}, ["rows.json", "no records"]),
        ({"options": ["--max-length", "3"]}, ["scoring.max_length", "greater than or equal to 8"]),
        ({"options": ["--template", "vicuna"]}, ["scoring.template", "alpaca"]),
        ({"options": ["--device", "tpu"]}, ["scoring.device"]),
        ({"options": ["--large", "./nowhere"]}, ["'./nowhere'", "no such folder"]),
    ],
)
def test_a_mistake_is_one_line(change, words, tmp_path, models):
    given = {name: value for name, value in change.items() if name != "options"}
    code, _, err = score(tmp_path, models, *change.get("options", []), **given)
    assert code in (1, 2)
    assert err.count("\n") == 1
    for word in words:
        assert word in err


def test_bad_rows_keep_their_place_and_a_conversation_is_one_row(tmp_path, models):
    config = tmp_path / "skip.yaml"
    config.write_text(
        "agents: {a: {model: hosted_vllm/a}}\npairs: {sampled: [keep+a], base: [keep+a]}\njudge: {agent: a}\n"
        "seeds: {on_bad_row: skip, turns: every, fields: {instruction: prompt, response: answer}}\nscoring: {small: s, large: l}\n"
    )
    rows = [
        {"prompt": "Say a", "answer": "a b c"},
        {"prompt": 3},
        {"prompt": "Say b", "answer": "b c", "history": [["Say", "b"]]},
    ]
    code, out, err = score(tmp_path, models, "--config", str(config), rows=rows)
    assert (code, err) == (0, "")
    written = pq.read_table(tmp_path / "scores.parquet").to_pylist()
    assert [row["status"] for row in written] == ["ok", "no_candidate", "ok"]
    assert "1 no_candidate" in out
