"""The offline profile's scoring models on disk: trained once, then found again."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from star_pipeline.adapters.offline.knowledge import Example, shipped_examples
from star_pipeline.adapters.offline.training import (
    Recipe,
    alpaca_pair,
    library_examples,
    save,
    train_model,
    train_tokenizer,
)

if TYPE_CHECKING:
    import transformers

_LOCK_FILE = ".offline-models.lock"
_UNFINISHED = ".offline-unfinished-"


def ensure_models(models_dir: Path, report: Callable[[str], None]) -> dict[str, Path]:
    """Folders of the models ``offline/small`` and ``offline/large``, trained first where they are not there yet.

    Training takes about a minute on two cores; ``report`` is told a line every few seconds. Another process that asks
    at the same time waits for this one. A model appears whole or not at all; what a killed process left is removed.
    """
    return ensure_trained(models_dir, report, Recipe(), shipped_examples())


def trained_models(models_dir: Path) -> dict[str, Path]:
    """Of the folders that ``ensure_models`` gives those that are there; trains nothing."""
    recipe = Recipe()
    folders = _folders(models_dir, recipe, shipped_examples())
    return {f"offline/{name}": folder for name, folder in folders.items() if folder.is_dir()}


def ensure_trained(
    models_dir: Path, report: Callable[[str], None], recipe: Recipe, examples: Sequence[Example]
) -> dict[str, Path]:
    """``ensure_models`` for any recipe and examples: ``offline/<size>`` to its folder."""
    from filelock import FileLock, Timeout

    models_dir.mkdir(parents=True, exist_ok=True)
    folders = _folders(models_dir, recipe, examples)
    if not all(folder.is_dir() for folder in folders.values()):
        lock = FileLock(models_dir / _LOCK_FILE)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            report("waiting for another process that trains the offline models")
            lock.acquire()
        try:
            _train_missing(models_dir, folders, recipe, examples, report)
        finally:
            lock.release()
    return {f"offline/{name}": folder for name, folder in folders.items()}


def _folders(models_dir: Path, recipe: Recipe, examples: Sequence[Example]) -> dict[str, Path]:
    version = fingerprint(recipe, examples)
    return {name: models_dir / f"offline-{name}-{version}" for name, _ in recipe.sizes}


def fingerprint(recipe: Recipe, examples: Sequence[Example]) -> str:
    """12 hex digits that change with all that the models depend on; Python's version stands for its documentation."""
    depends_on = [asdict(recipe), [asdict(example) for example in examples], sys.version_info[:2]]
    return hashlib.sha256(json.dumps(depends_on, sort_keys=True).encode()).hexdigest()[:12]


def _train_missing(
    models_dir: Path,
    folders: dict[str, Path],
    recipe: Recipe,
    examples: Sequence[Example],
    report: Callable[[str], None],
) -> None:
    """Under the lock: so any unfinished folder here belongs to a process that is gone."""
    for left_over in models_dir.glob(f"{_UNFINISHED}*"):
        shutil.rmtree(left_over, ignore_errors=True)
    missing = [(name, size) for name, size in recipe.sizes if not folders[name].is_dir()]
    if not missing:
        return
    report(f"training the offline scoring models ({', '.join(name for name, _ in missing)}), once, in about a minute")
    library = library_examples()
    texts = [text for example in [*examples, *library] for text in alpaca_pair(example)]
    tokenizer = _tokenizer(folders, texts, recipe)
    for name, size in missing:
        model = train_model(name, size, recipe, tokenizer, examples, library, report)
        unfinished = Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=models_dir))
        save(model, tokenizer, unfinished)
        unfinished.chmod(0o755)  # mkdtemp's 0o700 would lock out others who share the lake
        os.replace(unfinished, folders[name])


def _tokenizer(folders: dict[str, Path], texts: Sequence[str], recipe: Recipe) -> transformers.PreTrainedTokenizerFast:
    """The one that a finished model came with, so that all of them share it; else a new one."""
    from transformers import AutoTokenizer

    for folder in folders.values():
        if folder.is_dir():
            return AutoTokenizer.from_pretrained(folder, local_files_only=True)
    return train_tokenizer(texts, recipe.vocabulary)
