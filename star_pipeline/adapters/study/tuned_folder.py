"""A tuned model as an ordinary Hugging Face folder: made once, whole or not at all, and what is known of how it was made."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from star_pipeline.adapters.stores.local import unwritable
from star_pipeline.adapters.study.extras import quietly
from star_pipeline.adapters.study.form import TargetTexts
from star_pipeline.adapters.temporary_files import sweep, unfinished
from star_pipeline.config.study import TuneConfig
from star_pipeline.core.errors import ConfigError
from star_pipeline.core.ports import Progress

FACTS = "tuning.json"
"""Stands in a tuned model's folder, beside what transformers loads."""


@dataclass(frozen=True)
class FinishedTraining:
    """``folder`` loads in transformers. ``rows`` were taught, ``cut`` of them cut at ``max_length``, ``left_out`` others had no room for
    an answer. ``taught_tokens`` are an epoch's; ``loss`` (nats) is the mean over the training."""

    folder: Path
    rows: int
    cut: int
    left_out: int
    taught_tokens: int
    updates: int
    loss: float
    seconds: float


def finished_training(folder: Path) -> FinishedTraining | None:
    """What is known of a finished training; None where the folder is not there."""
    try:
        told = json.loads((folder / FACTS).read_text("utf-8"))
    except FileNotFoundError:
        return None
    return FinishedTraining(folder=folder, **told)


@dataclass(frozen=True)
class TunedFolder:
    """What is saved of a model."""

    model: Any  # Any: transformers is not followed
    tokenizer: Any
    facts: FinishedTraining

    def save(self, place: Path) -> None:
        self.model.save_pretrained(place)
        self.tokenizer.save_pretrained(place)
        told = {key: value for key, value in asdict(self.facts).items() if key != "folder"}
        (place / FACTS).write_text(json.dumps(told, indent=1), "utf-8")


def made_once(folder: Path, name: str, progress: Progress, make: Callable[[], TunedFolder]) -> FinishedTraining:
    """What ``make`` makes, saved in ``folder``, unless it is there. Others that want the same folder wait."""
    from filelock import FileLock, Timeout

    if found := finished_training(folder):
        return found
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder.parent / f".{folder.name}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        progress.note(f"waiting for another process that tunes {name or folder.name}")
        lock.acquire()
    try:
        if found := finished_training(folder):
            return found
        sweep(folder.parent)
        try:
            made = make()
            with unfinished(folder) as place, quietly():
                made.save(place)
        except OSError as error:
            raise unwritable(folder, error) from error
    finally:
        lock.release()
    tuned = finished_training(folder)
    assert tuned is not None, "it was just saved"
    return tuned


def ready_to_save(model: Any, texts: TargetTexts, dtype: str) -> Any:
    """The model as it is saved: in this dtype, ending where an answer is taught to end."""
    import torch

    model = model.to(getattr(torch, dtype)).eval()
    tokenizer, settings = texts.tokenizer, model.generation_config
    known = settings.eos_token_id
    others = [known] if isinstance(known, int) else list(known or ())
    settings.eos_token_id = list(dict.fromkeys([texts.end[-1], *others]))
    if settings.pad_token_id is None:
        settings.pad_token_id = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else texts.end[-1]
    return model


def device_of(how: TuneConfig) -> str:
    import torch

    asked = how.device
    if asked.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigError(
            f"study.tune.device: {asked} is not there; expected a GPU that torch sees; set device: cpu or auto"
        )
    return ("cuda" if torch.cuda.is_available() else "cpu") if asked == "auto" else asked


def dtype_on(device: str, how: TuneConfig) -> str:
    """What is computed in, and saved."""
    if how.dtype != "auto":
        return how.dtype
    return "float32" if device == "cpu" else "bfloat16"
