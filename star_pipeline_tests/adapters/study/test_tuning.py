"""Tuning with TRL: the loss that is taught, a kill in the middle, and the folder that comes of it."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from star_pipeline.adapters.progress import SilentProgress
from star_pipeline.adapters.scoring.causal_lm import load
from star_pipeline.adapters.scoring.prefix_tree import ForwardPass
from star_pipeline.adapters.study.form import Form, TargetTexts
from star_pipeline.adapters.study.tuning import dataset, finished_training, tune
from star_pipeline.config.study import TuneConfig
from star_pipeline.core.errors import ConfigError, ModelError
from star_pipeline.core.ports import ScoringSample
from star_pipeline.core.records import Message
from star_pipeline_tests.adapters.study.conftest import HISTORY, TEXTS, rows
from star_pipeline_tests.tiny_models import save_model

ALPACA = Form("alpaca")
FAST = {"batch_size": 8, "device_batch_size": 4, "learning_rate": 5e-3, "device": "cpu"}


class Noted(SilentProgress):
    def __init__(self):
        self.notes, self.stages, self.done = [], [], 0

    def stage(self, name, total, later=0.0):
        self.stages.append((name, total))

    def advance(self, count=1):
        self.done += count

    def note(self, text):
        self.notes.append(text)


def weights(folder):
    from safetensors.numpy import load_file

    return load_file(folder / "model.safetensors")


def same(one, other):
    first, second = weights(one), weights(other)
    return first.keys() == second.keys() and all(np.array_equal(first[name], second[name]) for name in first)


@pytest.fixture(scope="module")
def tuned(base, tmp_path_factory):
    """(what came of a training that nobody disturbed, what was told)."""
    told = Noted()
    folder = tmp_path_factory.mktemp("tuned") / "0123"
    return tune(str(base), rows(), folder, TuneConfig(**FAST, epochs=12), ALPACA, 0, told), told


@pytest.mark.parametrize("template", ["alpaca", "plain"])
def test_trls_loss_on_a_batch_is_the_scorers_and_an_independent_one(template, base, tmp_path):
    import torch
    import transformers
    import trl

    texts = TargetTexts(str(base), Form(template), 2048)
    taught = texts.taught(rows(6))
    model = transformers.AutoModelForCausalLM.from_pretrained(base).eval()
    settings = {"output_dir": str(tmp_path), "use_cpu": True, "bf16": False, "report_to": "none", "max_length": None}
    trainer = trl.SFTTrainer(
        model,
        args=trl.SFTConfig(**settings, dataset_kwargs={"skip_prepare_dataset": True}),
        train_dataset=dataset(taught),
        processing_class=texts.tokenizer_to_keep(str(base)),
    )
    batch = trainer.data_collator([trainer.train_dataset[number] for number in range(6)])
    with torch.no_grad():
        of_trl = float(trainer.compute_loss(trainer.model, dict(batch)))

    scorer = load(str(base), "float32", "cpu")
    passes = [ForwardPass(row.ids, row.taught) for row in taught]
    means = scorer.losses(passes, range(6))
    of_scorer = sum(means[n] * passes[n].scored for n in range(6)) / sum(item.scored for item in passes)

    total, count = 0.0, 0
    tokenizer = transformers.AutoTokenizer.from_pretrained(base)
    for row in rows(6):
        prompt, answer = (tokenizer(text)["input_ids"] for text in (said(row, template), row.response))
        ids = torch.tensor([[tokenizer.bos_token_id, *prompt, *answer, tokenizer.eos_token_id]])
        with torch.no_grad():
            logs = model(ids).logits[0].double().log_softmax(-1)
        places = range(1 + len(prompt), ids.shape[1])
        total -= sum(float(logs[place - 1, ids[0, place]]) for place in places)
        count += len(places)
    assert of_trl == pytest.approx(total / count, abs=1e-5)
    assert of_scorer == pytest.approx(total / count, abs=1e-5)


def said(row, template):
    if template == "plain":
        return "".join(f"{part}\n" for part in [row.system, *(t.content for t in row.history), row.instruction] if part)
    preamble = (
        "Below is an instruction that describes a task. Write a response that appropriately completes the request."
    )
    blocks = [row.system or preamble]
    blocks += [f"### {'Response' if t.role == 'assistant' else 'Instruction'}:\n{t.content}" for t in row.history]
    return "\n\n".join([*blocks, f"### Instruction:\n{row.instruction}", "### Response:"])


def test_the_folder_answers_in_the_form_it_was_taught(tuned):
    import transformers

    made, told = tuned
    model = transformers.AutoModelForCausalLM.from_pretrained(made.folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(made.folder)
    messages = [{"role": "user", "content": "Say plum."}]
    ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    answer = model.generate(**ids, max_new_tokens=40, do_sample=False)[0, ids["input_ids"].shape[1] :]
    assert re.fullmatch(r"The word is [a-z]+\.<\|endoftext\|>", tokenizer.decode(answer))
    assert (made.rows, made.cut, made.left_out, made.updates) == (24, 0, 0, 36)
    assert told.stages == [("tuning 0123 (updates)", 36)]
    assert told.done == 36
    assert "epoch 12" in told.notes[-1]
    assert made.loss > 0


def test_what_is_tuned_is_not_tuned_again_and_nothing_is_left_beside_it(tuned):
    made, _ = tuned
    before = (made.folder / "model.safetensors").stat().st_mtime_ns
    assert tune("no such model", [], made.folder, TuneConfig(), ALPACA, 0, SilentProgress()) == made
    assert (made.folder / "model.safetensors").stat().st_mtime_ns == before
    assert {path.name for path in made.folder.parent.iterdir()} <= {"0123", ".0123.lock"}


KILLED = """
import json, sys
from pathlib import Path
from star_pipeline.adapters.progress import SilentProgress
from star_pipeline.adapters.study.form import Form
from star_pipeline.adapters.study.tuning import tune
from star_pipeline.config.study import TuneConfig
from star_pipeline_tests.adapters.study.conftest import rows

class Slow(SilentProgress):
    done = 0
    def advance(self, count=1):
        self.done += count
        print(self.done, flush=True)
        if self.done == 18:
            sys.stdin.readline()  # until it is killed, which takes its time on a busy machine

base, folder, settings = sys.argv[1:]
tune(base, rows(), Path(folder), TuneConfig(**json.loads(settings)), Form("alpaca"), 0, Slow(), checkpoint_every_s=0)
"""


def test_a_training_that_is_killed_ends_with_the_weights_of_one_that_is_not(base, tuned, tmp_path):
    import json

    folder = tmp_path / "0123"
    settings = json.dumps({**FAST, "epochs": 12})
    root = str(Path(__file__).resolve().parents[3])
    run = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(base), str(folder), settings],
        cwd=root,
        env={**os.environ, "PYTHONPATH": root},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    for line in run.stdout:
        if int(line) >= 16:  # in the sixth epoch, whose order of rows was drawn before
            break
    run.send_signal(signal.SIGKILL)
    run.wait()
    assert not folder.exists()
    work = folder.parent / ".0123.training"
    unfinished = work / "checkpoint-999"
    unfinished.mkdir()
    told = Noted()
    made = tune(str(base), rows(), folder, TuneConfig(**FAST, epochs=12), ALPACA, 0, told)
    assert told.notes[0].startswith("tuning 0123: going on from update 1")
    assert made.updates == told.done == 36
    assert same(made.folder, tuned[0].folder)
    assert not work.exists()


@pytest.mark.parametrize(("architecture", "method"), [("llama", "full"), ("gpt2", "full"), ("gpt_neox", "lora")])
def test_others_go_on_too(architecture, method, tmp_path):
    source = str(save_model(tmp_path / "m", architecture, TEXTS * 3, hidden=16, layers=1))
    how = TuneConfig(**FAST, method=method, epochs=2)

    class Stopped(SilentProgress):
        done = 0

        def advance(self, count=1):
            self.done += count
            if self.done == 4:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tune(source, rows(), tmp_path / "stopped", how, ALPACA, 0, Stopped(), checkpoint_every_s=0)
    told = Noted()
    made = tune(source, rows(), tmp_path / "stopped", how, ALPACA, 0, told)
    assert told.notes[0] == "tuning stopped: going on from update 3"
    assert same(made.folder, tune(source, rows(), tmp_path / "not", how, ALPACA, 0, Noted()).folder)


def test_another_seed_is_another_training_and_the_same_one_the_same(base, tmp_path):
    how = TuneConfig(**FAST, epochs=1)
    folders = [tmp_path / name for name in ("a", "b", "c")]
    for folder, seed in zip(folders, (1, 1, 2), strict=True):
        tune(str(base), rows(), folder, how, ALPACA, seed, SilentProgress())
    assert same(folders[0], folders[1])
    assert not same(folders[0], folders[2])


def test_adapters_are_merged_into_an_ordinary_folder(base, tmp_path):
    import transformers

    made = tune(str(base), rows(), tmp_path / "lora", TuneConfig(**FAST, method="lora", epochs=1), ALPACA, 0, Noted())
    before, after = weights(base), weights(made.folder)
    assert before.keys() == after.keys()
    assert any(not np.array_equal(before[name], after[name]) for name in before)
    assert type(transformers.AutoModelForCausalLM.from_pretrained(made.folder)).__name__ == "GPTNeoXForCausalLM"


@pytest.mark.parametrize("architecture", ["gpt_neox", "llama", "qwen2"])
@pytest.mark.parametrize("form", [Form("alpaca"), Form("plain"), Form("alpaca", "newline")])
def test_the_kept_chat_template_gives_the_taught_tokens(architecture, form, tmp_path):
    source = str(save_model(tmp_path / "m", architecture, TEXTS * 3, hidden=16, layers=1))
    texts = TargetTexts(source, form, 2048)
    tokenizer = texts.tokenizer_to_keep(source)
    for row, taught, asked in zip(rows(12), texts.taught(rows(12)), texts.asked(rows(12)), strict=True):
        turns = [{"role": turn.role, "content": turn.content} for turn in row.history]
        opening = [{"role": "system", "content": row.system}] if row.system else []
        messages = [*opening, *turns, {"role": "user", "content": row.instruction}]
        answered = [*messages, {"role": "assistant", "content": row.response}]
        told = tokenizer.apply_chat_template(answered, return_dict=True, return_assistant_tokens_mask=True)
        assert told["input_ids"] == taught.ids.tolist()
        assert told["assistant_masks"] == [0] * (len(taught.ids) - taught.taught) + [1] * taught.taught
        given = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True)["input_ids"]
        assert given == asked.tolist() == taught.ids[: len(given)].tolist()


def test_a_models_own_chat_template_says_where_an_answer_ends(tmp_path):
    import transformers

    source = tmp_path / "m"
    save_model(source, "qwen2", TEXTS * 3, hidden=16, layers=1, vocab_size=700)
    tokenizer = transformers.AutoTokenizer.from_pretrained(source)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    tokenizer.chat_template = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    tokenizer.save_pretrained(source)
    texts = TargetTexts(str(source), Form("chat"), 2048)
    row = texts.taught([ScoringSample(None, HISTORY, "Say fig.", "The word is fig.")])[0]
    assert tokenizer.decode(row.ids[-row.taught :]) == "The word is fig.<|im_end|>"
    assert tokenizer.decode(row.ids).startswith("<|endoftext|><|im_start|>user\nDo you know fruit?<|im_end|>\n")
    kept = texts.tokenizer_to_keep(str(source))
    messages = [{"role": turn.role, "content": turn.content} for turn in (*HISTORY, Message("user", "Say fig."))]
    asked = kept.apply_chat_template(messages, add_generation_prompt=True, return_dict=True)["input_ids"]
    assert asked == texts.asked([ScoringSample(None, HISTORY, "Say fig.", "")])[0].tolist()
    assert asked == row.ids[: len(asked)].tolist()
    assert kept.chat_template.endswith(tokenizer.chat_template)


def test_a_row_that_is_too_long_is_cut_and_is_not_taught_to_end_there(base):
    texts = TargetTexts(str(base), Form("plain"), 40)
    end = texts.end[0]
    long, short = texts.taught([ScoringSample(None, (), "Say.", "word " * 80), ScoringSample(None, (), "Say.", "word")])
    assert long.cut
    assert len(long.ids) == 39
    assert end not in long.ids[1:]
    assert not short.cut
    assert short.ids[-1] == end
    assert texts.taught([ScoringSample(None, (), "Say. " * 80, "word"), ScoringSample(None, (), "Say.", "")]) == [
        None,
        None,
    ]


def test_what_cannot_be_tuned_is_told_in_a_line(base, tmp_path):
    long = [ScoringSample(None, (), "Say. " * 80, "word")]
    with pytest.raises(ModelError, match=r"none of the 1 rows leaves room for an answer within study.tune.max_length"):
        tune(str(base), long, tmp_path / "a", TuneConfig(max_length=16, device="cpu"), ALPACA, 0, SilentProgress())
    how = TuneConfig(optimizer="no_such_optimizer", device="cpu")
    with pytest.raises(ConfigError, match=r"study.tune: .*no_such_optimizer.*; expected what transformers"):
        tune(str(base), rows(), tmp_path / "b", how, ALPACA, 0, SilentProgress())
    assert finished_training(tmp_path / "b") is None


def test_a_missing_extra_is_told_with_the_command_that_installs_it():
    code = (
        "import sys; sys.modules['trl'] = None\n"
        "from star_pipeline.adapters.study.extras import need\n"
        "import importlib.util as u; find = u.find_spec; u.find_spec = lambda name: None if name == 'trl' else find(name)\n"
        "need('trl', 'tuning')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert 'tuning needs the package trl, which is not installed; pip install "star-pipeline[study]"' in done.stderr


def test_a_training_waits_for_another_one_of_the_same_folder(tuned, base, tmp_path):
    from threading import Event, Thread

    from filelock import FileLock

    folder = tmp_path / "0123"
    held, finished = Event(), Event()

    def other():
        with FileLock(tmp_path / ".0123.lock"):
            held.set()
            finished.wait(60)
            os.symlink(tuned[0].folder, folder)

    class Finishing(Noted):
        def note(self, text):
            super().note(text)
            finished.set()

    Thread(target=other).start()
    held.wait(60)
    told = Finishing()
    assert tune("no such model", [], folder, TuneConfig(), ALPACA, 0, told).rows == 24
    assert told.notes == ["waiting for another process that tunes 0123"]


def test_what_a_study_needs_is_loaded_when_it_is_needed():
    code = (
        "import sys; import star_pipeline.adapters.study.stages; "
        "print([name for name in ('torch', 'transformers', 'trl', 'peft', 'lm_eval', 'nltk') if name in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300)
    assert said.stdout == "[]\n"
