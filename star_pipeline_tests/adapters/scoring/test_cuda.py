"""A GPU gives what a processor gives: packed, pipelined, windowed, compiled, and when its memory runs out. Skipped where there is none."""

import numpy as np
import pytest
import torch

from star_pipeline.adapters.scoring import model_cache, row_losses
from star_pipeline.adapters.scoring.causal_lm import CausalLM
from star_pipeline.adapters.scoring.local import LocalScorer
from star_pipeline.adapters.scoring.numerics import Numerics
from star_pipeline.core.ports import ScoringSample
from star_pipeline_tests.tiny_models import save_model

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
TEXTS = ["Write a poem about the sea.", "def add(a, b):\n    return a + b", "Ünïcödé 🎉"] * 5
SAMPLES = [
    ScoringSample(None, (), f"Tell me about topic {n // 4}, please, and at some length.", "word " * (3 + 17 * (n % 4)) + f"{n}")
    for n in range(24)
]  # fmt: skip  # read as a table
SHAPES = {
    "gpt_neox": {},
    "gpt2": {},
    "llama": {"num_key_value_heads": 2},
    "qwen2": {"num_key_value_heads": 2},
    "mistral": {"sliding_window": 32, "num_key_value_heads": 2},
    "bloom": {},
}
_HELD = {"float32": 2e-6, "float16": 1e-2, "bfloat16": 3e-2}
"""nats; of a mean over some tens of tokens."""


def losses(folder, device, dtype="float32", layers="eager", **options):
    numerics = Numerics(dtype, device.split(":")[0], 1, layers=layers)
    scorer = LocalScorer(str(folder), numerics, "alpaca", 512, devices=(device,), **options)
    found = scorer.losses(SAMPLES, [len(sample.response) for sample in SAMPLES])
    return np.array([(loss.nll_given, loss.nll_alone) for loss in found])


@pytest.mark.parametrize("architecture", SHAPES)
def test_a_gpu_gives_what_a_processor_gives(architecture, tmp_path):
    folder = save_model(tmp_path, architecture, TEXTS, hidden=64, **SHAPES[architecture])
    expected = losses(folder, "cpu")
    for dtype, held in _HELD.items():
        for tokens in (None, 300):
            found = losses(folder, "cuda:0", dtype, batch_tokens=tokens)
            assert np.abs(found - expected).max() <= held, (dtype, tokens)
        [model] = model_cache.take(str(folder), Numerics(dtype, "cuda", 1), ("cuda:0",), "auto")
        assert model.ways.packs == (architecture != "bloom")


@pytest.mark.parametrize("architecture", ["gpt_neox", "llama"])
def test_compiled_layers_give_what_the_others_give(architecture, tmp_path):
    folder = save_model(tmp_path, architecture, TEXTS, hidden=64, **SHAPES[architecture])
    found = losses(folder, "cuda:0", "bfloat16", "compiled", batch_tokens=300)
    assert np.abs(found - losses(folder, "cpu")).max() <= _HELD["bfloat16"]


def test_batches_that_do_not_fit_are_halved(tmp_path, monkeypatch):
    folder = save_model(tmp_path, "llama", TEXTS, hidden=64)
    expected, run = losses(folder, "cuda:0"), CausalLM._run

    def with_little_memory(self, passes, members, ways, whole):
        if len(members) > 5:
            torch.empty(2**50, device=self.device)  # a real complaint of the allocator
        return run(self, passes, members, ways, whole)

    monkeypatch.setattr(CausalLM, "_run", with_little_memory)
    assert np.abs(losses(folder, "cuda:0") - expected).max() <= _HELD["float32"]


def test_losses_of_rows_are_those_of_a_plain_computation():
    generator = torch.Generator("cuda").manual_seed(0)
    for rows, vocabulary in ((1, 2), (7, 4095), (64, 50_304), (3, 151_936)):
        logits = torch.randn((rows, vocabulary), device="cuda", generator=generator) * 20
        logits[0, : vocabulary // 2] = float("-inf")
        targets = torch.randint(vocabulary // 2, vocabulary, (rows,), device="cuda", generator=generator)
        exact = torch.nn.functional.cross_entropy(logits.double(), targets, reduction="none")
        assert (row_losses.row_losses(logits, targets) - exact).abs().max() < 2e-5
