"""A value does not depend on how long the others of its batch are, whatever a model does with its longest position."""

import copy
import math

import pytest

from star_pipeline.adapters.scoring import model_cache
from star_pipeline.adapters.scoring.local import LocalScorer
from star_pipeline.adapters.scoring.numerics import settle
from star_pipeline.core.ports import ScoringSample
from star_pipeline_tests.adapters.scoring.one_by_one import OneByOne
from star_pipeline_tests.tiny_models import save_model

TEXTS = ["Write a poem about the sea.", "def add(a, b):\n    return a + b", "word word", "Tell me about topic"] * 5
BORDER = 48
LONG = [2.0, 4.0, 8.0, 16.0]
MODELS = {
    "longrope": (
        "phi3",
        {
            "original_max_position_embeddings": BORDER,
            "rope_parameters": {"rope_type": "longrope", "rope_theta": 100.0, "short_factor": [1.0] * 4, "long_factor": LONG},
        },
    ),
    "dynamic": ("llama", {"context": BORDER, "rope_parameters": {"rope_type": "dynamic", "rope_theta": 100.0, "factor": 4.0}}),
    "yarn": (
        "llama",
        {"rope_parameters": {"rope_type": "yarn", "rope_theta": 100.0, "factor": 4.0, "original_max_position_embeddings": BORDER}},
    ),
    "window": ("mistral", {"sliding_window": BORDER}),
    "scale by position": (
        "ministral3",
        {
            "num_key_value_heads": 2,
            "head_dim": 8,
            "rope_parameters": {
                "rope_type": "yarn", "rope_theta": 100.0, "factor": 4.0, "original_max_position_embeddings": BORDER,
                "llama_4_scaling_beta": 0.5, "beta_fast": 32.0, "beta_slow": 1.0, "mscale": 1.0, "mscale_all_dim": 1.0,
            },
        },
    ),
    "chunks": (
        "llama4_text",
        {
            "num_key_value_heads": 2, "head_dim": 8, "attention_chunk_size": BORDER, "floor_scale": BORDER, "attn_scale": 0.5,
            "num_local_experts": 2, "num_experts_per_tok": 1, "intermediate_size_mlp": 64, "no_rope_layers": [1, 0],
            "interleave_moe_layer_step": 1, "pad_token_id": 0,
        },
    ),
}  # fmt: skip  # read as a table
SAMPLES = [
    ScoringSample(None, (), f"Tell me about topic {n}", "word " * words + f"{n}")
    for n, words in enumerate([1, 3, 90, 5, 30, 60, 31, 2, 29, 120])
]


@pytest.fixture(params=MODELS)
def folder(request, tmp_path):
    architecture, settings = MODELS[request.param]
    return save_model(tmp_path, architecture, TEXTS, **settings)


def losses(folder, samples, batch_tokens):
    model_cache.clear()
    scorer = LocalScorer(str(folder), settle("float32", "cpu", None), "plain", 512, batch_tokens=batch_tokens)
    return scorer.losses(samples, [len(sample.response) for sample in samples])


def alone(folder):
    """Plain losses of a sample by a model that has seen nothing before: a dynamic embedding remembers the longest pass."""
    plain = OneByOne(folder)
    unused = plain.model

    def losses_of(sample):
        found = []
        for prompt in (f"{sample.instruction}\n", ""):
            plain.model = copy.deepcopy(unused)
            found.append(plain.losses(prompt, sample.response)[:2])
        return found[0][0], found[0][1], found[1][1]

    return plain, losses_of


def test_each_sample_gets_what_it_gets_alone(folder):
    _, losses_of = alone(folder)
    expected = [losses_of(sample) for sample in SAMPLES]
    for batch_tokens in (100_000, 200):
        for (count, *means), loss in zip(expected, losses(folder, SAMPLES, batch_tokens), strict=True):
            assert loss.n_tokens == count
            assert (loss.nll_given, loss.nll_alone) == pytest.approx(tuple(means), rel=2e-6)


def test_at_the_border_itself(folder):
    plain, losses_of = alone(folder)
    token = max((" word", " w", "w"), key=lambda text: len(plain.ids(text * 20)) == 20)
    fixed = len(plain.ids("x\n")) + 1
    samples = [ScoringSample(None, (), "x", token * (BORDER + more - fixed)) for more in (-1, 0, 1, 2)]
    assert [fixed + len(plain.ids(sample.response)) - BORDER for sample in samples] == [-1, 0, 1, 2]
    for sample, loss in zip(samples, losses(folder, samples, 100_000), strict=True):
        assert loss.nll_given == pytest.approx(losses_of(sample)[1], rel=2e-6)


def test_a_border_below_the_trial_of_the_start_is_no_hindrance(tmp_path):
    settings = MODELS["longrope"][1] | {"original_max_position_embeddings": 8}
    folder = save_model(tmp_path, "phi3", TEXTS, **settings)
    _, losses_of = alone(folder)
    for sample, loss in zip(SAMPLES, losses(folder, SAMPLES, 100_000), strict=True):
        assert (loss.nll_given, loss.nll_alone) == pytest.approx(losses_of(sample)[1:], rel=2e-6)


def test_weights_that_are_no_numbers_are_told_at_the_start(tmp_path):
    import torch
    import transformers

    from star_pipeline.core.errors import ModelError

    folder = save_model(tmp_path, "llama", TEXTS)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        model.model.layers[1].mlp.down_proj.weight[3, 5] = math.nan
    model.save_pretrained(folder)
    with pytest.raises(ModelError, match="NaN in its weights"):
        losses(folder, SAMPLES, 200)
