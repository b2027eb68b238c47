"""Checkpoints of a training that is killed at any moment: only whole ones are gone on from, and saving takes a small share of the time."""

import shutil
import time
from pathlib import Path
from typing import Any

_WHOLE = "whole"
"""A file in a checkpoint's folder, written once everything else is."""
_SHARE = 20
"""Training takes at least so many times as long as saving."""


def last_checkpoint(folder: Path) -> Path | None:
    """The last whole checkpoint; those that a kill left unfinished are removed."""
    found = []
    for place in folder.glob("checkpoint-*") if folder.is_dir() else ():
        if (place / _WHOLE).exists():
            found.append(place)
        else:
            shutil.rmtree(place, ignore_errors=True)
    return max(found, key=lambda place: int(place.name.rpartition("-")[2]), default=None)


def saving(every_s: float) -> Any:  # Any: transformers is not followed
    """A trainer's callback that asks for a checkpoint after ``every_s`` seconds, or later where saving takes long; at 0 always."""
    import transformers

    class Saving(transformers.TrainerCallback):  # type: ignore[misc]  # it is Any, since transformers is not followed
        def __init__(self) -> None:
            self._last, self._took = time.monotonic(), 0.0
            self._asked = 0.0

        def on_train_begin(self, *_: object, **__: object) -> None:
            self._last = time.monotonic()

        def on_step_end(self, args: object, state: Any, control: Any, **_: object) -> None:
            self._asked = time.monotonic()
            due = every_s and max(every_s, _SHARE * self._took)
            control.should_save = self._asked - self._last >= due and state.global_step < state.max_steps

        def on_save(self, args: Any, state: Any, control: object, **_: object) -> None:
            (Path(args.output_dir) / f"checkpoint-{state.global_step}" / _WHOLE).touch()
            self._last = time.monotonic()
            self._took = self._last - self._asked

    return Saving()
