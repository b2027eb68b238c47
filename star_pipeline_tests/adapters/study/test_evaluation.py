"""Held-out loss and answers of a tuned model loaded here, held against transformers by itself."""

import json
import math
from dataclasses import replace

import pytest

from star_pipeline.adapters.progress import SilentProgress
from star_pipeline.adapters.study import Form, answer, held_out
from star_pipeline.adapters.study import generation as making
from star_pipeline.core.study.answers import Subject
from star_pipeline_tests.adapters.study.conftest import QUESTIONS, WORDS, question, settings

ALPACA = Form("alpaca")
WHO = Subject("base", "star", 3)


class Stopped(SilentProgress):
    """Ends the work once ``most`` answers are there."""

    def __init__(self, most=math.inf):
        self.done, self.most = 0, most

    def advance(self, count=1):
        self.done += count
        if self.done >= self.most:
            raise KeyboardInterrupt


@pytest.fixture
def at_once(monkeypatch):
    """Sets how many answers are made at once, and counts the batches."""

    def limit(count):
        monkeypatch.setitem(making._MOST_ROWS, "cpu", count)
        asked = []
        write = making.Writer.write
        monkeypatch.setattr(
            making.Writer, "write", lambda self, *given: asked.append(len(given[0])) or write(self, *given)
        )
        return asked

    return limit


def answers(folder, lake, kept, questions=QUESTIONS, progress=None, subject=WHO, **changes):
    given = {"max_tokens": 24, **changes}
    progress = progress or SilentProgress()
    return answer(str(folder), questions, subject, ALPACA, settings(), lake, kept, progress, **given)


def prompt(system, *turns):
    preamble = (
        "Below is an instruction that describes a task. Write a response that appropriately completes the request."
    )
    blocks = [system or preamble]
    blocks += [f"### {'Response' if n % 2 else 'Instruction'}:\n{text}" for n, text in enumerate(turns)]
    return "\n\n".join([*blocks, "### Response:"])


def by_hand(folder, text, most=24):
    """(what transformers writes after the prompt by greedy search, whether it ended by itself)."""
    import torch
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    ids = [tokenizer.bos_token_id, *tokenizer(text)["input_ids"]]
    made = []
    with torch.no_grad():
        while len(made) < most and tokenizer.eos_token_id not in made:
            made.append(int(model(torch.tensor([ids + made])).logits[0, -1].argmax()))
    return tokenizer.decode(made, skip_special_tokens=True).strip(), made[-1] == tokenizer.eos_token_id


def test_answers_are_what_the_model_says_turn_by_turn(tuned_folder, lake, tmp_path):
    found = answers(tuned_folder, lake, tmp_path / "kept.jsonl")
    assert [(one.question, one.turn) for one in found] == [
        ("q0", 1),
        ("q1", 1),
        ("q1", 2),
        ("q2", 1),
        ("q2", 2),
        ("q3", 1),
    ]
    said = {(one.question, one.turn): one.text for one in found}
    history = ("Do you know fruit?", "I do.", "Say fig. " * 20)
    prompts = [
        prompt(None, "Say apple."),
        prompt(None, "Say pear."),
        prompt(None, "Say pear.", said["q1", 1], "Say plum."),
        prompt(None, *history),
        prompt(None, *history, said["q2", 1], "And once more: say fig."),
        prompt("Be short.", "Do you know fruit?"),
    ]
    for one, text in zip(found, prompts, strict=True):
        expected, ended = by_hand(tuned_folder, text)
        assert (one.text, one.status) == (expected, "ok" if ended else "cut_off")
    assert any(one.status == "ok" and one.text.startswith("The word is") for one in found)


@pytest.mark.parametrize("temperature", [0.0, 1.5])
def test_a_kill_costs_one_portion_and_the_answers_are_the_same(temperature, tuned_folder, lake, tmp_path, at_once):
    asked = at_once(1)
    kept = tmp_path / "a.jsonl"
    whole = answers(tuned_folder, lake, kept, temperature=temperature)
    count = len(asked)
    assert count == 6
    with pytest.raises(KeyboardInterrupt):
        answers(tuned_folder, lake, tmp_path / "b.jsonl", progress=Stopped(3), temperature=temperature)
    torn = (tmp_path / "b.jsonl").read_bytes()
    (tmp_path / "b.jsonl").write_bytes(torn + torn[:40])
    assert answers(tuned_folder, lake, tmp_path / "b.jsonl", temperature=temperature) == whole
    assert len(asked) == 2 * count
    assert (tmp_path / "b.jsonl").read_bytes() == kept.read_bytes()


def test_what_is_answered_is_read_and_no_model_loaded(tuned_folder, lake, tmp_path, at_once):
    kept = tmp_path / "kept.jsonl"
    asked = at_once(8)
    first = answers(tuned_folder, lake, kept)
    batches = len(asked)
    done = Stopped()
    assert answers(tuned_folder, lake, kept, progress=done) == first
    assert len(asked) == batches
    assert done.done == 6
    assert all(json.loads(line)["portion"] for line in kept.read_text().splitlines())


def test_draws_are_an_answers_own_whatever_its_batch(tuned_folder, lake, tmp_path, at_once):
    alone = (at_once(1), answers(tuned_folder, lake, tmp_path / "a", temperature=1.5))[1]
    together = (at_once(8), answers(tuned_folder, lake, tmp_path / "b", temperature=1.5))[1]
    assert alone == together
    other = answers(tuned_folder, lake, tmp_path / "c", temperature=1.5, subject=replace(WHO, seed=4))
    assert [one.text for one in other] != [one.text for one in alone]


def test_what_has_no_room_is_told_and_the_turn_after_it_is_not_asked(tuned_folder, lake, tmp_path):
    long = question("long", "Say fig. " * 400, "And now?")
    found = answers(tuned_folder, lake, tmp_path / "kept", questions=[long, QUESTIONS[0]])
    assert [(one.status, one.text is None) for one in found] == [
        ("prompt_too_long", True),
        ("not_asked", True),
        ("ok", False),
    ]
    assert "leave no room for an answer within the model's 1,024" in found[0].error


def test_held_out_loss_is_an_independent_one(tuned_folder, lake):
    import torch
    import transformers

    asked = [
        question(f"r{n}", f"Say {word}.", references=(f"The word is {word}.",), category="fruit")
        for n, word in enumerate(WORDS)
    ]
    two = question("two", "Say pear.", "Say plum.", references=("The word is pear.", "The word is plum."))
    none = question("none", "Say pear.")
    empty = question("empty", "Say pear.", references=("",))
    found = held_out(str(tuned_folder), [*asked, two, none, empty], WHO, ALPACA, settings(), lake, SilentProgress())

    tokenizer = transformers.AutoTokenizer.from_pretrained(tuned_folder)
    model = transformers.AutoModelForCausalLM.from_pretrained(tuned_folder).eval()

    def losses(text, answered):
        given, said = tokenizer(text)["input_ids"], tokenizer(answered)["input_ids"]
        ids = torch.tensor([[tokenizer.bos_token_id, *given, *said]])
        with torch.no_grad():
            logs = model(ids).logits[0].double().log_softmax(-1)
        return [-float(logs[place - 1, ids[0, place]]) for place in range(1 + len(given), ids.shape[1])]

    for row, one in zip(found, asked, strict=False):
        expected = losses(prompt(None, one.turns[0]), one.references[0])
        assert row.nll == pytest.approx(sum(expected) / len(expected), abs=1e-5)
        assert (row.n_tokens, row.status, row.category) == (len(expected), "ok", "fruit")
        assert (row.target, row.arm, row.seed, row.question) == ("base", "star", 3, one.question)
    both = losses(prompt(None, "Say pear."), "The word is pear.") + losses(
        prompt(None, "Say pear.", "The word is pear.", "Say plum."), "The word is plum."
    )
    assert found[6].nll == pytest.approx(sum(both) / len(both), abs=1e-5)
    assert [(row.status, row.nll, row.n_tokens) for row in found[7:]] == [
        ("no_reference", None, None),
        ("empty_response", None, None),
    ]
