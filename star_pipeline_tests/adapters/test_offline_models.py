"""The offline scoring models, trained for real but tiny and short."""

import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from star_pipeline.adapters.offline import models
from star_pipeline.adapters.offline.knowledge import Example
from star_pipeline.adapters.offline.training import (
    CONTEXT,
    END,
    PREAMBLE,
    Recipe,
    Size,
    alpaca_pair,
    encode,
    train_model,
    train_tokenizer,
)

COLOURS = ("red", "green", "blue", "brown", "white", "black")
THINGS = ("barn", "door", "kite", "boat")
EXAMPLES = tuple(
    Example(
        f"Which colour has the {thing} of {colour}ton?",
        f"The {thing} of {colour}ton is {colour}, as all there is {colour}.",
    )
    for colour in COLOURS
    for thing in THINGS
)
TINY = Recipe(
    sizes=(("small", Size(16, 1, 2, 1e-2)), ("large", Size(48, 2, 2, 6e-3))),
    vocabulary=400,
    epochs=20,
    library_epochs=0,
    bare_every=6,
    batch_tokens=256,
)
UNTRAINED = replace(TINY, epochs=0)


def ignore(line: str) -> None:
    """A report that nobody reads."""


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Several threads only wait for one another on models this small, and for other tests' threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return models.ensure_trained(tmp_path_factory.mktemp("models"), ignore, TINY, EXAMPLES)


def loss(model: Any, tokenizer: Any, prompt: str, response: str) -> float:
    """Mean negative log-likelihood of the response in nats, as Eq. 4 has it."""
    given = [tokenizer.bos_token_id, *tokenizer(prompt)["input_ids"]]
    answer = tokenizer(response)["input_ids"]
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([[*given, *answer]])).logits[0, len(given) - 1 : -1]
    return torch.nn.functional.cross_entropy(logits, torch.tensor(answer)).item()


def test_both_models_load_in_transformers_and_share_their_tokenizer(trained: dict[str, Path]) -> None:
    assert list(trained) == ["offline/small", "offline/large"]
    sizes, vocabularies = [], []
    for folder in trained.values():
        model: Any = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True)
        tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        assert model.dtype == torch.float32
        assert model.config.max_position_embeddings == tokenizer.model_max_length == CONTEXT
        assert tokenizer.bos_token == tokenizer.eos_token == END
        assert tokenizer.decode(tokenizer("Ein Käse, 乳酪 🧀\n")["input_ids"]) == "Ein Käse, 乳酪 🧀\n"
        sizes.append(model.num_parameters())
        vocabularies.append(tokenizer.get_vocab())
    assert sizes[0] < sizes[1]
    assert vocabularies[0] == vocabularies[1]


def test_the_true_instruction_makes_the_response_likelier_than_another_one_does(trained: dict[str, Path]) -> None:
    folder = trained["offline/large"]
    model: Any = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True)
    tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    pairs = [alpaca_pair(example) for example in EXAMPLES]
    ratios = []
    for number, (prompt, response) in enumerate(pairs):
        other = pairs[(number + len(THINGS) + 1) % len(pairs)][0]
        ratios.append(
            [
                math.exp(loss(model, tokenizer, text, response) - loss(model, tokenizer, "", response))
                for text in (prompt, other)
            ]
        )
    assert sum(true < shuffled for true, shuffled in ratios) > 0.85 * len(ratios)
    assert sum(true for true, _ in ratios) < len(ratios)


def test_a_second_call_finds_the_models_and_trains_nothing(
    trained: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "train_model", None)
    lines: list[str] = []
    found = models.ensure_trained(trained["offline/small"].parent, lines.append, TINY, EXAMPLES)
    assert found == trained
    assert lines == []


def test_other_seeds_or_another_recipe_make_other_models() -> None:
    names = {
        models.fingerprint(TINY, EXAMPLES),
        models.fingerprint(UNTRAINED, EXAMPLES),
        models.fingerprint(TINY, EXAMPLES[1:]),
    }
    assert len(names) == 3


def test_training_leaves_the_global_random_state_alone(tmp_path: Path) -> None:
    torch.manual_seed(7)
    before = torch.random.get_rng_state()
    models.ensure_trained(tmp_path, ignore, replace(TINY, epochs=1), EXAMPLES)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_training_again_from_nothing_gives_the_same_weights(tmp_path: Path) -> None:
    recipe = replace(TINY, epochs=2, sizes=TINY.sizes[:1])
    folders = [models.ensure_trained(tmp_path / name, ignore, recipe, EXAMPLES)["offline/small"] for name in "ab"]
    one, other = (
        AutoModelForCausalLM.from_pretrained(folder, local_files_only=True).state_dict() for folder in folders
    )
    assert all(torch.allclose(one[name], other[name], atol=1e-5) for name in one)


def test_a_failure_in_the_middle_leaves_no_model_and_the_next_call_clears_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def half(model: Any, tokenizer: Any, folder: Path) -> None:
        tokenizer.save_pretrained(folder)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(models, "save", half)
        with pytest.raises(KeyboardInterrupt):
            models.ensure_trained(tmp_path, ignore, UNTRAINED, EXAMPLES)
    assert not list(tmp_path.glob("offline-*"))
    folders = models.ensure_trained(tmp_path, ignore, UNTRAINED, EXAMPLES)
    assert all((folder / "model.safetensors").is_file() for folder in folders.values())
    assert not list(tmp_path.glob(".offline-unfinished-*"))


def test_only_the_missing_model_is_trained_and_with_the_tokenizer_of_the_other(tmp_path: Path) -> None:
    folders = models.ensure_trained(tmp_path, ignore, UNTRAINED, EXAMPLES)
    folders["offline/large"].rename(tmp_path / "moved")
    stamp = folders["offline/small"].stat().st_mtime_ns
    lines: list[str] = []
    again = models.ensure_trained(tmp_path, lines.append, UNTRAINED, EXAMPLES)
    assert again == folders
    assert folders["offline/small"].stat().st_mtime_ns == stamp
    assert (folders["offline/large"] / "tokenizer.json").read_bytes() == (
        tmp_path / "moved" / "tokenizer.json"
    ).read_bytes()
    assert "(large)" in lines[0]


def test_a_second_caller_waits_for_the_first_instead_of_training_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []

    def slow(name: str, *rest: Any) -> Any:
        calls.append(name)
        time.sleep(0.2)
        return train_model(name, *rest)

    monkeypatch.setattr(models, "train_model", slow)
    threads = [
        threading.Thread(target=models.ensure_trained, args=(tmp_path, ignore, UNTRAINED, EXAMPLES)) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert calls == ["small", "large"]


def test_a_killed_process_holds_no_lock(tmp_path: Path) -> None:
    code = (
        "import os, pathlib, sys, filelock\n"
        "from star_pipeline.adapters.offline import models\n"
        f"filelock.FileLock(pathlib.Path({str(tmp_path)!r}) / models._LOCK_FILE).acquire()\n"
        "print('held', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    os.kill(holder.pid, signal.SIGKILL)
    holder.communicate()
    assert models.ensure_trained(tmp_path, ignore, UNTRAINED, EXAMPLES)


def test_the_prompt_has_the_alpaca_form_with_system_and_earlier_turns_in_their_places() -> None:
    assert alpaca_pair(Example("Why?", "So.")) == (f"{PREAMBLE}\n\n### Instruction:\nWhy?\n\n### Response:", "So.")
    prompt, _ = alpaca_pair(Example("And now?", "No.", "Be kind.", (("Hi", "Hello"),)))
    assert prompt == (
        "Be kind.\n\n### Instruction:\nHi\n\n### Response:\nHello\n\n### Instruction:\nAnd now?\n\n### Response:"
    )


def test_only_the_response_is_learned_and_its_tokens_are_those_that_are_scored() -> None:
    pair = alpaca_pair(EXAMPLES[0])
    tokenizer = train_tokenizer([*pair], 300)
    answered, bare = encode([pair], tokenizer, bare=False)[0], encode([pair], tokenizer, bare=True)[0]
    assert answered.ids[answered.unscored :] == bare.ids[bare.unscored :]
    assert tokenizer.decode(answered.ids[answered.unscored :]) == pair[1] + END
    assert bare.unscored == 1
    assert answered.ids[0] == bare.ids[0] == tokenizer.bos_token_id
