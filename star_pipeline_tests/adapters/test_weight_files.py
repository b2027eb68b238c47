"""Files that are not a whole causal LM are told in one line, before anything is loaded or paid."""

import json
import shutil

import pytest

from star_pipeline.adapters.preflight import describe_model
from star_pipeline.adapters.scoring import causal_lm
from star_pipeline.adapters.scoring.numerics import settle
from star_pipeline.core.errors import ModelError
from star_pipeline_tests.tiny_models import save_model

TEXTS = ["Write a poem about the sea.", "def add(a, b):\n    return a + b"] * 5
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12345\n"

FOUR_BITS = {"quant_method": "bitsandbytes", "load_in_4bit": True}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("whole"), "llama", TEXTS)


def settings(folder, name="config.json", **changes):
    path = folder / name
    given = {**json.loads(path.read_text("utf-8")), **changes}
    path.write_text(json.dumps({key: value for key, value in given.items() if value is not ...}))


def tensors(folder, change):
    from safetensors.torch import load_file, save_file

    save_file(change(load_file(folder / "model.safetensors")), folder / "model.safetensors", metadata={"format": "pt"})


def cut(folder, name, size):
    path = folder / name
    path.write_bytes(path.read_bytes()[:size])


def pickled(folder):
    import torch
    from safetensors.torch import load_file

    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def sharded(folder):
    import transformers

    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="50KB")


def without_weights(folder, *others):
    (folder / "model.safetensors").unlink()
    for name in others:
        (folder / name).write_text("{}")


def a_token_more(folder):
    path = folder / "tokenizer.json"
    told = json.loads(path.read_text("utf-8"))
    told["added_tokens"] += [
        {"id": 600 + n, "content": f"<more{n}>", "special": False, "single_word": False, "lstrip": False, "rstrip": False,
         "normalized": False}
        for n in range(80)
    ]  # fmt: skip  # read as a table
    path.write_text(json.dumps(told))


def replaced(folder, config, kind):
    import transformers

    (folder / "model.safetensors").unlink()
    getattr(transformers, kind)(config).save_pretrained(folder)


def bert(folder):
    import transformers

    sizes = {"num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32, "hidden_size": 32}
    replaced(folder, transformers.BertConfig(vocab_size=600, **sizes), "BertForMaskedLM")


def t5(folder):
    import transformers

    sizes = {"d_model": 32, "num_layers": 1, "num_heads": 2, "d_ff": 32, "d_kv": 16}
    replaced(folder, transformers.T5Config(vocab_size=600, **sizes), "T5ForConditionalGeneration")


BROKEN = {
    "pointer": (lambda f: (f / "model.safetensors").write_text(POINTER), "model.safetensors is a git-lfs pointer"),
    "pointer of the tokenizer": (lambda f: (f / "tokenizer.json").write_text(POINTER), "tokenizer.json is a git-lfs pointer"),
    "cut in its header": (lambda f: cut(f, "model.safetensors", 500), "model.safetensors .500 bytes. is broken or cut off"),
    "cut at its end": (lambda f: cut(f, "model.safetensors", -8), "is broken or cut off"),
    "bin cut off": (lambda f: (pickled(f), cut(f, "pytorch_model.bin", 5000)), "pytorch_model.bin .* is broken or cut off"),
    "a shard too few": (lambda f: (sharded(f), sorted(f.glob("model-0*"))[1].unlink()), "model-00002-of-.* is not there, and"),
    "an index that is none": (lambda f: (sharded(f), (f / "model.safetensors.index.json").write_text("[]")), "cannot be read as an index"),
    "quantised": (lambda f: settings(f, quantization_config=FOUR_BITS), "quantised, and .*bitsandbytes"),
    "integers": (lambda f: tensors(f, lambda w: {k: v.mul(99).char() for k, v in w.items()}), "stored as I8"),
    "a layer too few": (lambda f: settings(f, num_hidden_layers=4), "weights lack model.layers.2"),
    "no head": (lambda f: tensors(f, lambda w: {k: v for k, v in w.items() if "lm_head" not in k}), "weights lack lm_head.weight"),
    "another shape": (lambda f: settings(f, vocab_size=400), "embed_tokens.weight has shape"),
    "an odd setting": (lambda f: settings(f, num_attention_heads=0), "cannot be loaded"),
    "tokens beyond": (a_token_more, "tokens beyond the model's .* embeddings, the first '<more"),
    "no tokenizer": (lambda f: [path.unlink() for path in f.glob("tok*")], "cannot be loaded"),
    "half a tokenizer": (lambda f: cut(f, "tokenizer.json", 300), "cannot be loaded"),
    "no weights": (lambda f: without_weights(f), "no weights in .*; expected model.safetensors"),
    "gguf": (lambda f: without_weights(f, "model.gguf"), "GGUF weights"),
    "adapter": (lambda f: without_weights(f, "adapter_config.json", "adapter_model.safetensors"), "an adapter .PEFT. and not a model"),
    "encoder": (bert, "BertForMaskedLM.: an encoder; expected a causal LM"),
    "encoder and decoder": (t5, "an encoder and a decoder; expected a causal LM"),
}  # fmt: skip  # read as a table


@pytest.mark.parametrize("fault", BROKEN)
def test_what_cannot_be_scored_with_is_one_line(fault, whole, tmp_path):
    folder = tmp_path / "m"
    shutil.copytree(whole, folder)
    BROKEN[fault][0](folder)
    with pytest.raises(ModelError, match=BROKEN[fault][1]) as told:
        describe_model(str(folder))
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    "fault", ["pointer", "cut in its header", "bin cut off", "a shard too few", "a layer too few", "encoder"]
)
def test_loading_tells_it_in_one_line_too(fault, whole, tmp_path):
    folder = tmp_path / "m"
    shutil.copytree(whole, folder)
    BROKEN[fault][0](folder)
    with settle("float32", "cpu", None).in_force(), pytest.raises(ModelError) as told:
        causal_lm.load(str(folder), "float32", "cpu")
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("form", ["safetensors", "shards", "bin", "without architectures"])
def test_whole_models_are_described_with_their_size(form, whole, tmp_path):
    folder = tmp_path / "m"
    shutil.copytree(whole, folder)
    change = {"shards": sharded, "bin": pickled, "without architectures": lambda f: settings(f, architectures=...)}
    change.get(form, lambda f: None)(folder)
    assert "GB of weights" in describe_model(str(folder))


@pytest.mark.parametrize(
    "architecture", ["gpt2", "gpt_neox", "opt", "bloom", "mamba", "gemma2", "qwen2", "mixtral", "cohere"]
)
def test_nothing_is_lacking_in_what_transformers_saves(architecture, tmp_path):
    """Whatever the names under which an architecture keeps, ties or converts its weights."""
    assert describe_model(str(save_model(tmp_path, architecture, TEXTS)))
