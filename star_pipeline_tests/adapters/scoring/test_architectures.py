"""Any causal LM of transformers gives what a plain computation gives, by the fastest way that is right for it."""

import json
import math

import pytest

from star_pipeline.adapters.scoring import model_cache
from star_pipeline.adapters.scoring.causal_lm import CausalLM, ExecutionModes
from star_pipeline.adapters.scoring.local import LocalScorer
from star_pipeline.adapters.scoring.numerics import Numerics, settle
from star_pipeline.core.equations.ifd_templates import prompt_text
from star_pipeline.core.errors import ModelError
from star_pipeline.core.ports import ScoringSample
from star_pipeline_tests.adapters.scoring.one_by_one import OneByOne
from star_pipeline_tests.tiny_models import ARCHITECTURES, save_model

FAST, OWN_HEAD, IN_ROWS, IN_ROWS_OWN_HEAD = (
    ExecutionModes(True, True),
    ExecutionModes(True, False),
    ExecutionModes(False, True),
    ExecutionModes(False, False),
)
WAYS = {
    "gpt_neox": FAST,
    "gpt2": FAST,
    "llama": FAST,
    "qwen2": FAST,
    "mistral": FAST,  # attention within a window
    "opt": FAST,
    "cohere": OWN_HEAD,  # scales its logits
    "gemma2": IN_ROWS_OWN_HEAD,  # caps its logits and what goes into its attention
    "bloom": IN_ROWS,  # no positions but in its attention
    "mamba": IN_ROWS,  # no attention at all
}
TEXTS = ["Write a poem about the sea.", "def add(a, b):\n    return a + b", "今天天气很好。", "Ünïcödé 🎉"] * 5
SAMPLES = [
    ScoringSample(None, (), f"Tell me about topic {n // 4}, please, and at some length.", "word " * (3 + 7 * (n % 4)) + f"{n}")
    for n in range(12)
]  # fmt: skip  # read as a table


@pytest.mark.parametrize("architecture", WAYS)
def test_equals_a_plain_computation(architecture, tmp_path):
    folder = save_model(tmp_path, architecture, TEXTS)
    scorer = LocalScorer(str(folder), settle("float32", "cpu", None), "plain", 512, batch_tokens=200)
    found = scorer.losses(SAMPLES, [len(sample.response) for sample in SAMPLES])
    [model] = model_cache.take(str(folder), Numerics("float32", "cpu", 1), ("cpu",), "auto")
    assert model.ways == WAYS[architecture]
    plain = OneByOne(folder)
    for sample, loss in zip(SAMPLES, found, strict=True):
        count, given, alone = plain.losses(f"{sample.instruction}\n", sample.response)
        assert loss.n_tokens == count
        assert (loss.nll_given, loss.nll_alone) == pytest.approx((given, alone), rel=1e-6)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_public_rows_equal_a_plain_computation(architecture, tmp_path, shared_data):
    rows = json.loads(shared_data("superfiltering_ifd/alpaca_data_kmeans_hybrid_10per.json").read_text("utf-8"))
    texts = [row["output"] for row in rows[:300]]
    folder = save_model(tmp_path, architecture, texts, context=2048, vocabulary=1000)
    # each architecture takes every fourth row; the benchmark score_rows takes them all
    chosen = [row for row in rows[ARCHITECTURES.index(architecture) :: 4] if row["output"]]
    samples = [
        ScoringSample(None, (), "\n".join(filter(None, (row["instruction"], row["input"]))), row["output"])
        for row in chosen
    ]
    scorer = LocalScorer(str(folder), settle("float32", "cpu", None), "alpaca", 2048)
    found = scorer.losses(samples, [fit.kept_chars for fit in scorer.fit(samples)])
    plain = OneByOne(folder)
    for sample, loss in zip(samples, found, strict=True):
        prompt = prompt_text("alpaca", None, (), sample.instruction)
        count, given, alone = plain.losses(prompt, sample.response, 2048)
        assert loss.n_tokens == count
        assert (loss.nll_given, loss.nll_alone) == pytest.approx((given, alone), rel=1e-6)
        assert math.exp(loss.nll_given - loss.nll_alone) == pytest.approx(math.exp(given - alone), rel=1e-5)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_is_near_and_takes_the_fast_ways(dtype, tmp_path):
    folder = save_model(tmp_path, "llama", TEXTS, initializer_range=0.05)
    scorer = LocalScorer(str(folder), settle(dtype, "cpu", None), "plain", 512)
    found = scorer.losses(SAMPLES, [len(sample.response) for sample in SAMPLES])
    [model] = model_cache.take(str(folder), Numerics(dtype, "cpu", 1), ("cpu",), "auto")
    assert model.ways == FAST
    plain = OneByOne(folder)
    for sample, loss in zip(SAMPLES, found, strict=True):
        _, given, alone = plain.losses(f"{sample.instruction}\n", sample.response)
        assert (loss.nll_given, loss.nll_alone) == pytest.approx((given, alone), rel=1e-2)


def test_the_start_token_is_bos_else_eos_and_never_added_twice(tmp_path):
    starts = {"llama": "<s>", "gpt2": "<|endoftext|>", "qwen2": "<|endoftext|>"}
    for architecture, start in starts.items():
        folder = save_model(tmp_path / architecture, architecture, TEXTS)
        plain = OneByOne(folder)
        assert plain.tokenizer.convert_ids_to_tokens(plain.start) == start
        own = plain.tokenizer("hello")["input_ids"]
        assert (own[0] == plain.start) == (architecture == "llama")  # it alone adds BOS by itself
        scorer = LocalScorer(str(folder), settle("float32", "cpu", None), "plain", 512)
        [loss] = scorer.losses(SAMPLES[:1], [len(SAMPLES[0].response)])
        _, given, alone = plain.losses(f"{SAMPLES[0].instruction}\n", SAMPLES[0].response)
        assert (loss.nll_given, loss.nll_alone) == pytest.approx((given, alone), rel=1e-6)


class Off(CausalLM):
    """Its packed or padded ways lie off what the model itself gives, by ``share`` of the largest logit."""

    share = 0.0

    def _plainly(self, trial):
        found, self.largest = super()._plainly(trial)
        return found, self.largest

    def _token_losses(self, batch, tiles):
        return super()._token_losses(batch, tiles) + self.share * self.largest


def test_rounding_of_large_activations_is_no_other_model_and_more_than_that_is(tmp_path):
    """Sums in another order move Qwen2.5-0.5B's logits by 1.5e-5 of the largest, and a real model must not be refused for that."""
    import transformers

    def loaded(share):
        model = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
        return type("Off", (Off,), {"share": share})("qwen", model, "cpu")

    folder = save_model(tmp_path, "qwen2", TEXTS)
    assert loaded(2e-5).ways == FAST
    with pytest.raises(ModelError, match="hidden states and its head"):
        loaded(2e-4)
