"""``export --push``: what the real library of the hub sends to a hub on loopback, byte for byte, and what is said where it cannot."""

import json
import os
import subprocess
import sys

import pytest
import yaml

from star_pipeline_tests.commands.test_export_recipe import TEXTS, lake_of
from star_pipeline_tests.hub_server import MAY_READ, MAY_WRITE, Hub, Repository, served
from star_pipeline_tests.tiny_models import save_model

# what the library of the hub reads of its environment as it is imported: so commands are run in a process of their own, one after the other
COMMANDS = """
import contextlib, io, json, os, sys
from star_pipeline.cli import main
told = []
for environment, arguments in json.loads(sys.argv[1]):
    os.environ.update(environment)
    sys.argv[1:] = arguments
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main()
        except SystemExit as end:
            told.append([end.code, out.getvalue(), err.getvalue()])
print(json.dumps(told))
"""


def commands(hub, folder, *told):
    """(exit code, output, errors) of ``export`` for each (environment, arguments)."""
    given = [[environment, ["export", *map(str, arguments)]] for environment, arguments in told]
    quiet = {
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HOME": str(folder / "hf"),
        "HF_ENDPOINT": hub.address,
    }
    done = subprocess.run(
        [sys.executable, "-c", COMMANDS, json.dumps(given)],
        env={**os.environ, **quiet, "HF_TOKEN": "", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip  # an argument each
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


def front(readme):
    return yaml.safe_load(readme.decode().split("---\n")[1])


@pytest.fixture
def lake(tmp_path):
    model = save_model(tmp_path / "model", "qwen2", TEXTS * 3, hidden=16, layers=1)
    made = lake_of(tmp_path, model)
    made.write_bytes(made.dataset_manifest, json.dumps({"name": "mine", "dataset": {"license": "apache-2.0"}}).encode())
    return made


def test_what_is_pushed_is_the_export_to_the_byte_private_and_once(lake, tmp_path):
    out, rows = tmp_path / "recipe", tmp_path / "rows.jsonl"
    folder = ["--lake", lake.root, "--for", "torchtune", "--output", out, "--push", "team/recipe"]
    file = ["--lake", lake.root, "--format", "messages", "--output", rows, "--push", "team/rows", "--public"]
    may = {"HF_TOKEN": MAY_WRITE}
    with served(Hub(large=("train.jsonl",), failing=1)) as hub:
        (out.mkdir(), (out / "weights.safetensors").write_bytes(b"of an earlier training"))
        failed, first, again, of_file = commands(
            hub, tmp_path, (may, folder), (may, folder), (may, folder), (may, file)
        )
    assert failed[0] == 1
    *_, line = failed[2].splitlines()  # after the bar of what went up
    assert (
        f"--push team/recipe: {hub.address} refused it (500: the hub has a bad day); run the same command again" in line
    )
    assert first[0] == again[0] == 0, again[2]
    assert first[1].splitlines()[-1] == f"pushed to {hub.address}/datasets/team/recipe (private), 5 files"
    assert again[1].splitlines()[-1] == f"nothing new for {hub.address}/datasets/team/recipe (private), 5 files"
    recipe = hub.repositories["team/recipe"]
    assert recipe.private
    assert recipe.commits == ["star-pipeline export: torchtune"]
    assert recipe.files == {
        path.name: path.read_bytes() for path in out.iterdir() if path.name != "weights.safetensors"
    }
    assert sum(line.startswith("PUT ") for line in hub.asked) == 1, (
        "what had been sent before the failure was sent again"
    )
    told = front(recipe.files["README.md"])
    assert (told["license"], told["configs"][0]["data_files"][0]["path"]) == ("apache-2.0", "train.jsonl")
    assert told["pretty_name"] == "mine (Star-Agents)"
    assert of_file[1].splitlines()[-1].endswith("team/rows (public), 2 files")
    pushed = hub.repositories["team/rows"]
    assert not pushed.private
    assert pushed.files["rows.jsonl"] == rows.read_bytes()
    assert front(pushed.files["README.md"])["configs"][0]["data_files"][0]["path"] == "rows.jsonl"
    assert [(one["type"], one["visibility"]) for one in hub.created] == [("dataset", "private")] * 3 + [
        ("dataset", "public")
    ]


def test_what_cannot_be_pushed_is_one_line_and_nothing_is_sent(lake, tmp_path):
    lake.write_bytes(lake.dataset_manifest, json.dumps({"name": "mine", "dataset": {"license": None}}).encode())
    rows = tmp_path / "rows.jsonl"
    base = ["--lake", lake.root, "--format", "messages"]
    to = [*base, "--output", rows, "--push"]
    may = {"HF_TOKEN": MAY_WRITE}
    cases = [
        (({"HF_TOKEN": ""}, [*to, "team/rows"]), 2, "no token; set HF_TOKEN"),
        ((may, [*to, "rows"]), 2, "expected OWNER/NAME"),
        ((may, [*to, "team/open"]), 2, "it is there already, and public; nothing was sent. Add --public"),
        ((may, [*base, "--output", "-", "--push", "team/rows"]), 2, "expected a file or a folder to push"),
        ((may, [*base, "--output", rows, "--public"]), 2, "expected --push OWNER/NAME beside it"),
        (({"HF_TOKEN": MAY_READ}, [*to, "team/rows"]), 1, "refused it (403): the token may not write there"),
        (({"HF_TOKEN": "hf_old"}, [*to, "team/rows"]), 1, "refused it (401): its token is not known there"),
        (({**may, "HF_ENDPOINT": "http://127.0.0.1:9"}, [*to, "team/rows"]), 1, "http://127.0.0.1:9 does not answer"),
    ]
    with served(Hub(repositories={"team/open": Repository(False)})) as hub:
        for (code, out, err), (_, expected, words) in zip(
            commands(hub, tmp_path, *(case for case, *_ in cases)), cases, strict=True
        ):
            assert (code, words in err, err.count("\n")) == (expected, True, 1), err
            assert MAY_WRITE not in out + err
        assert list(hub.repositories) == ["team/open"]
        assert hub.repositories["team/open"].files == {}
        [done] = commands(hub, tmp_path, (may, [*to, "team/rows"]))
    assert done[0] == 0
    assert "license" not in front(hub.repositories["team/rows"].files["README.md"])
