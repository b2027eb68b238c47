"""Losses of samples from the mean losses of their passes, which come in any order; equal passes are asked for once."""

import itertools
import math
import threading
from bisect import bisect_right
from collections.abc import Sequence

from star_pipeline.adapters.scoring.prefix_tree import ForwardPass
from star_pipeline.core.ports import Heard, ResponseLoss


class PairedLosses:
    """``pairs`` are each sample's passes, with its prompt and alone; ``heard`` is called with each sample's loss once both are there.

    Without ``alone`` the pass that has no prompt is left out. ``done`` may be called from several threads.
    """

    def __init__(
        self, pairs: Sequence[tuple[ForwardPass, ForwardPass]], heard: Heard | None = None, alone: bool = True
    ) -> None:
        self._pairs, self._heard = pairs, heard
        self._means: dict[tuple[bytes, int], float] = {}
        self._lock = threading.Lock()
        wanted = [{item.key: item for item in pair[: 2 if alone else 1] if item.scored} for pair in pairs]
        distinct = {key: item for of_sample in wanted for key, item in of_sample.items()}
        self.passes = list(distinct.values())
        """What is to be computed."""
        self._of: dict[tuple[bytes, int], list[int]] = {}
        self._lacking = [len(of_sample) for of_sample in wanted]
        for number, of_sample in enumerate(wanted if heard else ()):
            for key in of_sample:
                self._of.setdefault(key, []).append(number)

    def done(self, number: int, mean: float) -> None:
        """The mean loss, in nats, of the pass of this number."""
        key = self.passes[number].key
        with self._lock:
            self._means[key] = mean
            for sample in self._of.get(key, ()):
                self._lacking[sample] -= 1
                if self._heard and not self._lacking[sample]:
                    self._heard(sample, self._loss(sample))

    def all(self) -> list[ResponseLoss]:
        """One a sample, in their order; NaN where there was nothing to score."""
        return [self._loss(sample) for sample in range(len(self._pairs))]

    def _loss(self, sample: int) -> ResponseLoss:
        given, alone = self._pairs[sample]
        return ResponseLoss(given.scored, self._means.get(given.key, math.nan), self._means.get(alone.key, math.nan))


class GroupedLosses:
    """The same of runs of samples, of the sizes ``groups``: equal passes of two runs are asked for in each, as if it were alone."""

    def __init__(
        self,
        pairs: Sequence[tuple[ForwardPass, ForwardPass]],
        heard: Heard | None = None,
        alone: bool = True,
        groups: Sequence[int] | None = None,
    ) -> None:
        ends = list(itertools.accumulate([len(pairs)] if groups is None else groups))
        if (ends[-1] if ends else 0) != len(pairs):
            raise ValueError(f"groups of {ends[-1] if ends else 0} samples in all; expected {len(pairs)}")
        self._found = [
            PairedLosses(pairs[begin:end], _after(heard, begin), alone)
            for begin, end in zip([0, *ends], ends, strict=False)
        ]
        self._begins = [0, *itertools.accumulate(len(one.passes) for one in self._found)][:-1]
        self.passes = [item for one in self._found for item in one.passes]
        """What is to be computed."""

    @property
    def groups(self) -> list[tuple[int, list[ForwardPass]]]:
        """Of each run the number of its first pass, and its passes."""
        return [(begin, one.passes) for begin, one in zip(self._begins, self._found, strict=True)]

    def done(self, number: int, mean: float) -> None:
        """The mean loss, in nats, of the pass of this number."""
        group = bisect_right(self._begins, number) - 1
        self._found[group].done(number - self._begins[group], mean)

    def all(self) -> list[ResponseLoss]:
        """One a sample, in their order."""
        return [loss for one in self._found for loss in one.all()]


def _after(heard: Heard | None, begin: int) -> Heard | None:
    return (lambda number, loss: heard(begin + number, loss)) if heard else None
