"""The hub is asked once for a model, by the real Hugging Face libraries, over a server on loopback that has nothing to give."""

import json
import os
import shutil
import subprocess
import sys
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from star_pipeline_tests.tiny_models import save_model

CHECK = """
import json, sys
from star_pipeline.adapters.preflight import describe_model
from star_pipeline.core.errors import ModelError
for name in sys.argv[1:]:
    try:
        print(json.dumps(describe_model(name)))
    except ModelError as error:
        print(json.dumps(str(error)))
"""

COMMIT = "a" * 40
EMBEDDING = """
import json, sys
from star_pipeline.adapters.preflight import describe_embedding
from star_pipeline.core.errors import ModelError
for name in sys.argv[1:]:
    try:
        print(json.dumps(describe_embedding(name)))
    except ModelError as error:
        print(json.dumps(str(error)))
"""
OTHERS = """
import json
from star_pipeline.adapters.scoring.kinds import kind_of
from star_pipeline.adapters.scoring.tokenizer import load_tokenizer
from star_pipeline.core.errors import ModelError
from star_pipeline.adapters.scoring.weights import weights_of
for look in (
    lambda: weights_of("kept/model", "plain"),
    lambda: load_tokenizer("kept/model").name,
    lambda: kind_of("kept/model", None, None).family,
    lambda: load_tokenizer("silent/model").name,
):
    try:
        print(json.dumps(look()))
    except ModelError as error:
        print(json.dumps(str(error)))
"""
COMMIT_OF = """
from star_pipeline.adapters.scoring.weights import weights_of
print(json.dumps(weights_of("kept/model", "plain")))
"""


@pytest.fixture
def hub():
    """Address, and how often each model was asked for: `busy/…` gets 503, `silent/…` no reply, any other model is unknown."""
    asked, done = Counter(), threading.Event()

    class Hub(BaseHTTPRequestHandler):
        def do_HEAD(self):
            owner = self.path.split("/")[1]
            asked[owner] += 1
            if owner == "silent":
                done.wait(60)
                return
            self.send_response(503 if owner in ("busy", "kept") else 404)
            self.end_headers()

        do_GET = do_HEAD

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    done.set()
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """HF_HOME with kept/model, as the libraries keep what they have downloaded, and kept/bare, which lacks its weights."""
    home = tmp_path_factory.mktemp("home")
    kept = home / "hub" / "models--kept--model"
    save_model(kept / "snapshots" / COMMIT, "gpt2", ["Write a poem about the sea."] * 5)
    (kept / "refs").mkdir()
    (kept / "refs" / "main").write_text(COMMIT)
    bare = home / "hub" / "models--kept--bare"
    shutil.copytree(kept, bare)
    (bare / "snapshots" / COMMIT / "model.safetensors").unlink()
    return home


def checked(cache, address, names, code=CHECK, offline="0"):
    settings = {"HF_HUB_OFFLINE": offline, "HF_ENDPOINT": address, "HF_HOME": str(cache), "HF_HUB_ETAG_TIMEOUT": "1"}
    command = [sys.executable, "-c", code, *names]
    run = subprocess.run(command, env=os.environ | settings, capture_output=True, text=True, timeout=300, check=True)
    return [json.loads(line) for line in run.stdout.splitlines()]


def test_a_hub_that_does_not_answer_is_asked_once_for_each_model(hub, cache):
    address, asked = hub
    names = ("busy/model", "silent/model", "kept/model", "unknown/model")
    busy, silent, there, unknown = checked(cache, address, names)
    for said, name in ((busy, "busy"), (silent, "silent")):
        assert f"'{name}/model': not on this machine, and {address} does not answer (asked once, 1 s at most: " in said
        assert "HF_ENDPOINT" in said
        assert asked[name] == 1
    assert "503" in busy
    assert "GB of weights" in there
    assert asked["kept"] == 1
    assert "unknown/model" in unknown
    assert "does not answer" not in unknown


def test_without_a_network_a_downloaded_model_is_known_by_its_commit_and_another_is_said_to_be_missing(cache):
    there, other, commit = checked(cache, "http://127.0.0.1:9", ("kept/model", "some/model"), CHECK + COMMIT_OF)
    assert "GB of weights" in there
    assert "not on this machine" in other
    assert "refused" in other
    assert commit == f"commit:{COMMIT}"


@pytest.mark.parametrize("offline", ["0", "1"], ids=["no network", "HF_HUB_OFFLINE"])
def test_weights_that_cannot_be_downloaded_are_missed_before_anything_is_paid(cache, offline):
    [said] = checked(cache, "http://127.0.0.1:9", ["kept/bare"], offline=offline)
    assert said.startswith("scoring model 'kept/bare': its configuration is on this machine, its weights are not")
    assert "HF_ENDPOINT" in said


def test_whoever_looks_at_a_model_while_the_hub_does_not_answer_has_its_one_answer(hub, cache):
    address, asked = hub
    *there, silent = checked(cache, address, (), OTHERS)
    assert there == [f"commit:{COMMIT}", "kept/model", "gpt2"]
    assert asked["kept"] == 1
    assert f"'silent/model': not on this machine, and {address} does not answer (asked once, 1 s at most: " in silent
    assert asked["silent"] == 1


def test_an_embedding_model_is_looked_for_before_it_is_needed(hub, cache, tmp_path):
    address, asked = hub
    (tmp_path / "empty").mkdir()
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "modules.json").write_text("[]")
    names = (
        "kept/model",
        "kept/bare",
        "unknown/model",
        "busy/model",
        str(tmp_path / "folder"),
        str(tmp_path / "empty"),
    )
    there, bare, unknown, busy, folder, empty = checked(cache, address, names, EMBEDDING)
    assert (there, folder) == ("on this machine", "a folder")
    assert bare.startswith(
        "memory.embedding 'kept/bare': not on this machine, and it cannot be downloaded now; expected a network"
    )
    assert unknown.startswith(f"memory.embedding 'unknown/model' cannot be had of {address}: ")
    assert busy.startswith(
        f"memory.embedding 'busy/model': not on this machine, and {address} does not answer (asked once, "
    )
    assert busy.endswith("or the folder of a sentence-transformers model")
    assert f"memory.embedding '{tmp_path}/empty': modules.json and config.json are not there" in empty
    assert asked["busy"] == 1
    assert checked(cache, address, ["kept/model"], EMBEDDING, offline="1") == ["on this machine"]
