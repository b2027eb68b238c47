"""A model with the vocabulary that its texts use: the head is two thirds of a small model's arithmetic, which a processor cannot afford.

Vocabulary trimming (Abdaoui et al., 2020, "Load What You Need"): of embeddings and head the rows of the tokens that are used stay, and
all else of the model as it is. Texts become the same tokens as before, which is checked; what is left out is the probability of all
other tokens, so that a loss is lower by -log of what the used ones had together.
"""

import json
import re
import shutil
from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from star_pipeline.adapters.study.form import Form, TargetTexts
from star_pipeline.core import identity
from star_pipeline.core.ports import ScoringSample

TOKENIZER = "tokenizer.json"


def trimmed(source: str, samples: Sequence[ScoringSample], form: Form, longest: int, folder: Path) -> str:
    """A Hugging Face folder in ``folder``, of ``source`` with the tokens of ``samples``, cut as tuning cuts them at ``longest`` tokens;
    made once. Raises SystemExit where its tokens are not the model's own."""
    target = folder / identity.digest("trimmed", source, longest, [[one.instruction, one.response] for one in samples])
    if not target.exists():
        unfinished = target.with_suffix(".unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        before = tokens(source, samples, form, longest)
        used = {int(one) for row in before for one in np.unique(row)}
        kept, of = write_tokenizer(Path(source), unfinished, used)
        write_weights(source, unfinished, kept)
        for old, new in zip(before, tokens(str(unfinished), samples, form, longest), strict=True):
            if not np.array_equal(old, kept[new]):
                raise SystemExit(f"{source}: with the vocabulary of its texts alone, a text has other tokens")
        print(f"{source}: {len(kept)} of {of} tokens kept", flush=True)
        unfinished.replace(target)
    return str(target)


def tokens(source: str, samples: Sequence[ScoringSample], form: Form, longest: int) -> list[Any]:
    return [row.ids for row in TargetTexts(source, form, longest).taught(samples) if row is not None]


def write_tokenizer(source: Path, target: Path, used: Collection[int]) -> tuple[Any, int]:
    """Writes the tokenizer; returns which token each of its ids was, in the same order, and of how many.

    Kept are the used tokens, what each is merged from on its way, single bytes, and the named special ones. A merge that leads to none
    of them was never made in these texts, so that without it the others are made as before.
    """
    written = json.loads((source / TOKENIZER).read_text("utf-8"))
    ids: Mapping[str, int] = written["model"]["vocab"]
    names = {number: name for name, number in ids.items()}
    names |= {added["id"]: added["content"] for added in written["added_tokens"]}
    settings = json.loads((source / "tokenizer_config.json").read_text("utf-8"))
    special = {value for key, value in settings.items() if key.endswith("_token") and isinstance(value, str)}
    ranks = {(left, right): rank for rank, (left, right) in enumerate(written["model"]["merges"])}
    single = re.compile("<0x..>" if written["model"].get("byte_fallback") else ".")
    kept = {name for name in ids if single.fullmatch(name)}
    kept |= {added["content"] for added in written["added_tokens"] if added["content"] in special | {"<unk>"}}
    for number in used:
        kept |= merged_from(names[number], ranks)
    order = sorted((number, name) for number, name in names.items() if name in kept)
    new = {name: place for place, (_, name) in enumerate(order)}
    model = written["model"]
    model["vocab"] = {name: new[name] for name in ids if name in new}
    model["merges"] = [pair for pair in model["merges"] if {*pair, pair[0] + pair[1]} <= new.keys()]
    written["added_tokens"] = [
        added | {"id": new[added["content"]]} for added in written["added_tokens"] if added["content"] in new
    ]
    for token in (written["post_processor"] or {}).get("special_tokens", {}).values():
        token["ids"] = [new[name] for name in token["tokens"]]
    target.mkdir(parents=True)
    (target / TOKENIZER).write_text(json.dumps(written), "utf-8")
    (target / "tokenizer_config.json").write_text(json.dumps(settings), "utf-8")
    if (source / "chat_template.jinja").exists():
        shutil.copy(source / "chat_template.jinja", target)
    return np.array([number for number, _ in order]), len(names)


def merged_from(name: str, ranks: Mapping[tuple[str, str], int]) -> set[str]:
    """The token and all that byte pair encoding makes on the way to it."""
    pieces, seen = list(name), {name, *name}
    while len(pieces) > 1:
        pairs = [(ranks.get(pair, len(ranks)), place) for place, pair in enumerate(pairwise(pieces))]
        rank, place = min(pairs)
        if rank == len(ranks):
            break  # a special token
        pieces[place : place + 2] = [pieces[place] + pieces[place + 1]]
        seen.add(pieces[place])
    return seen


def write_weights(source: str, target: Path, kept: Any) -> None:
    import torch
    import transformers

    model = transformers.AutoModelForCausalLM.from_pretrained(source, local_files_only=True)
    rows = torch.from_numpy(kept)
    with torch.no_grad():
        for layer in {id(one): one for one in (model.get_input_embeddings(), model.get_output_embeddings())}.values():
            layer.weight = torch.nn.Parameter(layer.weight[rows].clone())
    model.tie_weights()
    numbers = {int(old): place for place, old in enumerate(kept)}
    for settings in (model.config, model.generation_config):
        for name in ("bos_token_id", "eos_token_id", "pad_token_id", "unk_token_id"):
            value = getattr(settings, name, None)
            if isinstance(value, int):
                setattr(settings, name, numbers.get(value))
            elif value:
                setattr(settings, name, [numbers[one] for one in value if one in numbers])
    model.config.vocab_size = len(kept)
    model.save_pretrained(target)
