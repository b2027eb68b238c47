"""Eq. 4 under real (small, random) models against a plain one-by-one computation."""

import copy
import math
import shutil
import subprocess
import sys
from typing import get_args

import pytest

from star_pipeline.adapters.preflight import describe_model
from star_pipeline.adapters.progress import SilentProgress
from star_pipeline.adapters.scoring import model_cache, numerics
from star_pipeline.adapters.scoring.local import LocalScorer
from star_pipeline.adapters.scoring.numerics import Numerics, settle
from star_pipeline.adapters.scoring.tokenizer import load_tokenizer
from star_pipeline.core.equations.ifd import score_samples
from star_pipeline.core.equations.ifd_templates import Start
from star_pipeline.core.errors import ModelError
from star_pipeline.core.ports import ScoringSample
from star_pipeline.core.records import Message
from star_pipeline_tests.adapters.scoring.one_by_one import OneByOne
from star_pipeline_tests.tiny_models import save_gpt_neox

TEXTS = [
    "Write a poem about the sea.",
    "def add(a, b):\n    return a + b\n```python\nprint(1)\n```",
    "今天天气很好。",
    "Ünïcödé émojis 🎉🎊",
] * 5
SAMPLES = [
    ScoringSample(None, (), "Write a poem", "The sea is wide and blue."),
    ScoringSample("Be brief.", (Message("user", "hi"), Message("assistant", "hello")), "And now?", "Now we go."),
    ScoringSample(None, (), "Add two numbers:", "```python\ndef add(a, b): return a + b\n```"),
    ScoringSample(None, (), "One", "x"),
    ScoringSample(None, (), "emoji", "🎉🎊 ünï 今天"),
    ScoringSample(None, (), "rtl", "שלום עולם"),
    ScoringSample(None, (), "specials", "text <|endoftext|> more"),
    ScoringSample(None, (), "long", "word " * 400),
    ScoringSample(None, (), "empty", ""),
    ScoringSample(None, (), "very long prompt " * 200, "answer"),
    ScoringSample(None, (), "spaces", "   "),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_gpt_neox(tmp_path_factory.mktemp("m"), TEXTS, seed=3, hidden=32, layers=2, context=256)


START_NAMES = get_args(Start)
FLOAT32 = settle("float32", "cpu", None)


def scorer(folder, max_length=128, batch_tokens=512, template="plain", **given):
    return LocalScorer(str(folder), FLOAT32, template, max_length, batch_tokens=batch_tokens, **given)


def one_by_one(folder, prompt, response, limit):
    return OneByOne(folder).losses(prompt, response, limit)


def test_losses_equal_a_plain_computation(folder):
    chosen = SAMPLES[:7] + SAMPLES[10:]
    found = scorer(folder).losses(chosen, [len(s.response) for s in chosen])
    for sample, loss in zip(chosen, found, strict=True):
        prompt = "".join(
            f"{part}\n"
            for part in [*filter(None, [sample.system]), *(m.content for m in sample.history), sample.instruction]
        )
        count, given, alone = one_by_one(folder, prompt, sample.response, 128)
        assert loss.n_tokens == count
        assert loss.nll_given == pytest.approx(given, rel=1e-5)
        assert loss.nll_alone == pytest.approx(alone, rel=1e-5)
        assert math.exp(loss.nll_given - loss.nll_alone) == pytest.approx(math.exp(given - alone), rel=1e-4)


STARTS = pytest.mark.parametrize("start", ["token", "skip_first", "newline"])


@STARTS
def test_each_start_equals_a_plain_computation_and_one_token_is_too_short_to_skip_it(folder, start):
    rows = score_samples(SAMPLES, *[lambda: scorer(folder, start=start)] * 2)
    plainly = OneByOne(folder)
    expected = ["ok"] * 8 + ["empty_response", "prompt_too_long", "ok"]
    if start == "skip_first":
        expected[3] = "too_short"
    assert [row.status for row in rows] == expected
    assert (rows[7].truncated, rows[3].ifd_small is None) == (True, start == "skip_first")
    for sample, row in zip(SAMPLES, rows, strict=True):
        if row.status == "ok" and not sample.system:
            count, given, alone = plainly.losses(f"{sample.instruction}\n", sample.response, 128, start)
            assert row.n_tokens_small == count
            assert (row.nll_given_small, row.nll_alone_small) == pytest.approx((given, alone), rel=1e-5)


def test_the_starts_differ_in_what_is_scored_and_not_only_in_name(folder):
    found = {s: score_samples(SAMPLES[:1], *[lambda s=s: scorer(folder, start=s)] * 2)[0] for s in START_NAMES}
    assert len({row.ifd_small for row in found.values()}) == 3
    assert (
        found["skip_first"].n_tokens_small == found["token"].n_tokens_small - 1 == found["newline"].n_tokens_small - 1
    )


def test_a_cut_that_leaves_only_the_token_that_is_skipped_is_no_response(folder):
    prompt = len(load_tokenizer(str(folder)).tokenizer("long\n", add_special_tokens=False)["input_ids"])
    [fit] = scorer(folder, max_length=prompt + 2, start="skip_first").fit([SAMPLES[7]])
    assert fit.status == "prompt_too_long"
    [fit] = scorer(folder, max_length=prompt + 3, start="skip_first").fit([SAMPLES[7]])
    assert fit.status == "ok"
    [fit] = scorer(folder, max_length=prompt + 2, start="newline").fit([SAMPLES[7]])
    assert fit.status == "prompt_too_long"


@STARTS
def test_values_do_not_depend_on_the_batch_or_its_order(folder, start):
    chosen = SAMPLES[:3] + SAMPLES[4:8]
    kept = [fit.kept_chars for fit in scorer(folder, start=start).fit(chosen)]
    reference = scorer(folder, batch_tokens=1, start=start).losses(chosen, kept)
    for batch_tokens in (64, 300, 100_000):
        again = scorer(folder, batch_tokens=batch_tokens, start=start).losses(chosen[::-1], kept[::-1])[::-1]
        for a, b in zip(reference, again, strict=True):
            assert (a.nll_given, a.nll_alone) == pytest.approx((b.nll_given, b.nll_alone), rel=2e-6)


def test_hostile_rows_give_a_value_or_a_status_never_nan(folder):
    rows = score_samples(SAMPLES, lambda: scorer(folder), lambda: scorer(folder))
    assert [row.status for row in rows] == ["ok"] * 8 + ["empty_response", "prompt_too_long", "ok"]
    for row in rows:
        values = [row.nll_given_small, row.nll_alone_small, row.ifd_small, row.gap]
        assert all(math.isfinite(v) for v in values) if row.status == "ok" else values == [None] * 4
    assert [row.truncated for row in rows] == [False] * 7 + [True] + [False] * 3


def test_a_long_response_is_cut_at_its_end_in_both_passes(folder):
    sample = SAMPLES[7]
    [row] = score_samples([sample], lambda: scorer(folder), lambda: scorer(folder))
    count, given, alone = one_by_one(folder, "long\n", sample.response, 128)
    assert row.n_tokens_small == count
    assert (row.nll_given_small, row.nll_alone_small) == pytest.approx((given, alone), rel=1e-5)


def test_the_models_own_context_is_a_limit_too(folder):
    [fit] = scorer(folder, max_length=100_000).fit([SAMPLES[7]])
    assert 0 < fit.kept_chars < len(SAMPLES[7].response)
    [row] = score_samples([SAMPLES[7]], lambda: scorer(folder, 100_000), lambda: scorer(folder, 100_000))
    assert row.n_tokens_small == 256 - 1 - len(load_tokenizer(str(folder)).tokenizer("long\n")["input_ids"])


def test_no_character_is_cut_in_two(folder):
    sample = ScoringSample(None, (), "e", "🎉" * 200)
    for limit in range(20, 30):
        [fit] = scorer(folder, max_length=limit).fit([sample])
        [loss] = scorer(folder, max_length=limit).losses([sample], [fit.kept_chars])
        tokens = load_tokenizer(str(folder)).tokenizer("🎉" * fit.kept_chars, add_special_tokens=False)["input_ids"]
        assert loss.n_tokens == len(tokens)


def test_two_tokenizers_score_the_same_shorter_text(folder, tmp_path):
    # few merges: its tokens are shorter, so it cuts earlier
    other = save_gpt_neox(tmp_path, ["zz"], seed=1, hidden=32, layers=1, vocabulary=260)
    sample = SAMPLES[7]
    fits = [scorer(f).fit([sample])[0].kept_chars for f in (folder, other)]
    assert fits[1] < fits[0]
    [row] = score_samples([sample], lambda: scorer(folder), lambda: scorer(other))
    text = sample.response[: fits[1]]
    for name, where in (("small", folder), ("large", other)):
        count, given, alone = one_by_one(where, "long\n", text, 10_000)
        assert getattr(row, f"n_tokens_{name}") == count
        assert getattr(row, f"nll_given_{name}") == pytest.approx(given, rel=1e-5)
        assert getattr(row, f"nll_alone_{name}") == pytest.approx(alone, rel=1e-5)


def test_what_cannot_be_loaded_is_said_in_one_line(tmp_path, folder):
    with pytest.raises(ModelError, match="no-such-model") as error:
        scorer(tmp_path / "no-such-model")
    assert "\n" not in str(error.value)
    with pytest.raises(ModelError, match="no chat template"):
        scorer(folder, template="chat").fit([SAMPLES[0]])


def test_a_tokenizer_without_bos_and_eos_is_refused(folder, tmp_path):
    import shutil

    import transformers

    shutil.copytree(folder, tmp_path / "m")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    tokenizer.bos_token = tokenizer.eos_token = None
    tokenizer.save_pretrained(tmp_path / "m")
    with pytest.raises(ModelError, match="neither a BOS nor an EOS"):
        scorer(tmp_path / "m")


def test_the_chat_template_is_the_tokenizers_own_with_one_start_token(folder, tmp_path):
    import shutil

    import transformers

    shutil.copytree(folder, tmp_path / "m")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = (
        "{{ bos_token }}{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}<assistant>"
    )
    tokenizer.save_pretrained(tmp_path / "m")
    [loss] = scorer(tmp_path / "m", template="chat").losses([SAMPLES[1]], [len(SAMPLES[1].response)])
    prompt = "<system>Be brief.<user>hi<assistant>hello<user>And now?<assistant>"
    count, given, _ = one_by_one(folder, prompt, SAMPLES[1].response, 128)
    assert (loss.n_tokens, loss.nll_given) == (count, pytest.approx(given, rel=1e-5))


def test_a_chat_template_without_a_system_role_gets_it_with_the_first_message(folder, tmp_path):
    import shutil

    import transformers

    shutil.copytree(folder, tmp_path / "m")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = (
        "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
        "<{{ m.role }}>{{ m.content }}{% endfor %}"
    )
    tokenizer.save_pretrained(tmp_path / "m")
    [loss] = scorer(tmp_path / "m", template="chat").losses([SAMPLES[1]], [len(SAMPLES[1].response)])
    _, given, _ = one_by_one(folder, "<user>Be brief.\n\nhi<assistant>hello<user>And now?", SAMPLES[1].response, 128)
    assert loss.nll_given == pytest.approx(given, rel=1e-5)


def test_auto_is_decided_once_and_a_device_that_is_not_there_is_said():
    first = settle("auto", "auto", None)
    assert settle("auto", "auto", first) == first
    assert settle("auto", "auto", Numerics("bfloat16", "cpu", 3)) == Numerics("bfloat16", "cpu", 3)
    assert settle("float32", "cpu", Numerics("bfloat16", "cpu", 3)).dtype == "float32"
    import torch

    if not torch.cuda.is_available():
        assert (first.dtype, first.device) == ("float32", "cpu")
        with pytest.raises(ModelError, match=r"scoring\.device: cpu"):
            settle("auto", "auto", Numerics("bfloat16", "cuda", 3))


def test_layers_are_compiled_on_a_gpu_alone_and_a_lake_keeps_how_they_were_run():
    def layers(device, recorded=None, compiled=True):
        return settle("bfloat16", device, recorded, here=False, compiled=compiled).layers

    assert [layers("cuda"), layers("cuda", compiled=False), layers("cpu")] == ["compiled", "eager", "eager"]
    for kept in ("compiled", "eager"):
        assert {layers("cuda", Numerics("bfloat16", "cuda", 1, layers=kept), asked) for asked in (True, False)} == {
            kept
        }


def test_equal_passes_are_computed_once(folder):
    counted = Counted()
    twice = [SAMPLES[0], SAMPLES[0], ScoringSample(None, (), "Another prompt", SAMPLES[0].response)]
    losses = scorer(folder, progress=counted).losses(twice, [len(SAMPLES[0].response)] * 3)
    assert losses[0] == losses[1]
    assert losses[2].nll_alone == losses[0].nll_alone
    plain = OneByOne(folder)
    prompts, response = (plain.ids("Write a poem\n"), plain.ids("Another prompt\n")), plain.ids(SAMPLES[0].response)
    assert counted.total == sum(1 + len(prompt) + len(response) for prompt in prompts) + 1 + len(response)


def test_several_devices_share_the_work(folder):
    chosen = SAMPLES[:8]
    kept = [fit.kept_chars for fit in scorer(folder).fit(chosen)]
    together = scorer(folder, batch_tokens=64, devices=("cpu", "cpu")).losses(chosen, kept)
    for a, b in zip(scorer(folder).losses(chosen, kept), together, strict=True):
        assert (a.nll_given, a.nll_alone) == pytest.approx((b.nll_given, b.nll_alone), rel=1e-6)


def test_models_stay_loaded_and_one_alone_where_there_is_room_for_one(folder, tmp_path):
    other = save_gpt_neox(tmp_path, TEXTS, seed=1, hidden=32, layers=1)
    model_cache.clear()
    for keep, there in (("both", [str(folder), str(other)]), ("one", [str(other)])):
        for name in (folder, other):
            scorer(name, keep=keep).losses(SAMPLES[:1], [5])
        assert model_cache.loaded() == there
    [before] = model_cache.take(str(other), Numerics("float32", "cpu", 1), ("cpu",), "one")
    scorer(other, keep="one").losses(SAMPLES[:1], [5])
    assert model_cache.take(str(other), Numerics("float32", "cpu", 1), ("cpu",), "one") == [before]


def test_out_of_memory_halves_the_batch_and_goes_on(folder, tmp_path):
    """In a process of its own whose memory really is limited: one large batch does not fit, its parts do.

    The batch needs some 750 MiB, 1,024 tokens 2: 200 leave room for what libraries map once, such as a thread's 64 MiB arena.
    """
    program = tmp_path / "limited.py"
    program.write_text(
        "import resource, sys, json\n"
        "from star_pipeline.adapters.scoring.local import LocalScorer\n"
        "from star_pipeline.adapters.scoring.numerics import Numerics\n"
        "from star_pipeline.adapters.progress import LineProgress\n"
        "from star_pipeline.core.ports import ScoringSample\n"
        "samples = [ScoringSample(None, (), f'Say {n}', f'word {n} ' * 60) for n in range(400)]\n"
        "def losses(tokens, count):\n"
        "    numerics = Numerics('float32', 'cpu', 1)\n"
        "    scorer = LocalScorer(sys.argv[1], numerics, 'plain', 1024, batch_tokens=tokens, progress=LineProgress())\n"
        "    return [l.nll_given for l in scorer.losses(samples[:count], [len(s.response) for s in samples[:count]])]\n"
        "small = losses(1024, 400)\n"
        "used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used + int(sys.argv[2]), resource.RLIM_INFINITY))\n"
        "large = losses(10**9, 400)\n"
        "print(json.dumps(max(abs(a - b) / a for a, b in zip(small, large))))\n"
    )
    done = subprocess.run(
        [sys.executable, str(program), str(folder), str(200 * 2**20)], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert "out of memory with" in done.stderr
    assert float(done.stdout) < 1e-6


def test_a_library_that_multiplies_wrongly_is_not_chosen(monkeypatch):
    import torch

    monkeypatch.setattr(numerics, "_ONEDNN", "bf16")
    assert numerics._measure(Numerics("float32", "cpu", 1, "default")) > 0
    plain = torch.nn.functional.linear
    monkeypatch.setattr(torch.nn.functional, "linear", lambda x, w: plain(x.bfloat16(), w.bfloat16()).float())
    assert numerics._measure(Numerics("float32", "cpu", 1, "onednn")) == 0
    # a lake that was scored with it gets the default where it does not multiply rightly
    assert settle("float32", "cpu", Numerics("float32", "cpu", 1, "onednn")).linear == "default"


@pytest.mark.parametrize(
    ("default", "onednn", "chosen"),
    [
        (140, 146, "default"),
        (100, 124, "default"),
        (100, 126, "onednn"),
        (100, 0, "default"),
        (0, 100, "onednn"),
        (0, 0, "default"),
    ],
)
def test_of_libraries_that_are_about_as_fast_every_lake_has_the_same(default, onednn, chosen):
    assert numerics._worth_it({"default": default, "onednn": onednn}) == chosen


class Counted(SilentProgress):
    total = 0

    def stage(self, name, total, later=0.0):
        self.total = total


def test_a_text_with_a_token_that_the_model_has_no_embedding_for_gets_a_status(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "m")
    tokenizer = load_tokenizer(str(folder)).tokenizer
    padded = copy.deepcopy(tokenizer)
    padded.add_special_tokens(
        {"pad_token": "<pad>"}
    )  # as many tunings of Llama did, and left the embeddings as they were
    padded.save_pretrained(tmp_path / "m")
    assert describe_model(str(tmp_path / "m"))
    samples = [SAMPLES[0], ScoringSample(None, (), "x", "a <pad> b"), ScoringSample(None, (), "<pad>", "a b")]
    rows = score_samples(samples, lambda: scorer(tmp_path / "m"), lambda: scorer(folder))
    assert [row.status for row in rows] == ["ok", "unknown_token", "unknown_token"]
