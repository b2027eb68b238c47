"""A model's identity is its content: it follows a copy, and changes with every byte that decides a number."""

import os
import shutil
import time

import pytest

from star_pipeline.adapters.scoring import model_cache, weights
from star_pipeline.adapters.scoring.local import LocalScorer
from star_pipeline.adapters.scoring.numerics import settle
from star_pipeline.core.ports import ScoringSample
from star_pipeline_tests.tiny_models import save_model

TEXTS = ["Write a poem about the sea.", "def add(a, b):\n    return a + b"] * 5


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return save_model(tmp_path / "m", "llama", TEXTS)


def of(folder, template="plain"):
    return weights.weights_of(str(folder), template)


def test_a_copy_and_a_model_saved_again_are_the_same(folder, tmp_path):
    import transformers

    shutil.copytree(folder, tmp_path / "copy")
    assert of(tmp_path / "copy") == of(folder)
    transformers.AutoModelForCausalLM.from_pretrained(folder).save_pretrained(tmp_path / "copy")
    (tmp_path / "copy" / "README.md").write_text("about it")
    assert of(tmp_path / "copy") == of(folder)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json"])
def test_every_file_that_decides_a_number_counts(name, folder):
    before = of(folder)
    path = folder / name
    content = path.read_bytes()
    other = {"model.safetensors": content[:-1] + bytes([content[-1] ^ 1])}
    path.write_bytes(other.get(name, content.replace(b"true", b"false", 1).replace(b"1", b"2", 1)))
    assert of(folder) != before


def test_a_chat_template_counts_where_it_is_used(folder):
    plain, chat = of(folder), of(folder, "chat")
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    assert of(folder) == plain
    assert of(folder, "chat") != chat


def test_a_file_is_read_once_and_again_when_it_was_replaced(folder, monkeypatch):
    path, read = folder / "model.safetensors", []
    digest = weights.hashlib.file_digest
    monkeypatch.setattr(weights.hashlib, "file_digest", lambda file, kind: read.append(file.name) or digest(file, kind))
    old = time.time() - 60
    monkeypatch.setattr(weights.time, "time", lambda: old + 120)
    before = of(folder)
    assert str(path) in read
    read.clear()
    assert of(folder) == before
    assert not read
    # as rsync or cp -p leave it: another content of the same size and age
    seen = path.stat()
    other = path.with_name("other")
    other.write_bytes(path.read_bytes()[:-1] + b"\x7f")
    os.utime(other, ns=(seen.st_atime_ns, seen.st_mtime_ns))
    os.replace(other, path)
    assert of(folder) != before
    assert read == [str(path)]


def test_a_file_that_is_still_young_is_not_taken_to_be_known(folder):
    of(folder)
    assert not weights._Kept().__enter__().has(folder / "model.safetensors")


def test_a_process_that_lives_on_loads_replaced_weights_anew(folder, tmp_path):
    def loss():
        scorer = LocalScorer(str(folder), settle("float32", "cpu", None), "plain", 64, weights=of(folder))
        [found] = scorer.losses([ScoringSample(None, (), "Write", "a poem about the sea")], [20])
        return found.nll_given

    first = loss()
    assert loss() == first
    other = save_model(tmp_path / "other", "llama", TEXTS, seed=5)
    shutil.copy(other / "model.safetensors", folder / "model.safetensors")
    assert abs(loss() - first) > 1e-3
    assert model_cache.loaded().count(str(folder)) == 1
