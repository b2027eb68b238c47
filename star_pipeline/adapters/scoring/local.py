"""The port's scorer over a model in this process: few tokens, full batches, every device."""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

from star_pipeline.adapters.scoring import model_cache
from star_pipeline.adapters.scoring.causal_lm import CausalLM
from star_pipeline.adapters.scoring.numerics import Numerics
from star_pipeline.adapters.scoring.paired_losses import GroupedLosses
from star_pipeline.adapters.scoring.prefix_tree import ForwardPass
from star_pipeline.adapters.scoring.tokenizer import PassBuilder, load_tokenizer
from star_pipeline.config.scoring import KeepLoaded
from star_pipeline.core.equations.ifd_templates import Start
from star_pipeline.core.errors import ModelError
from star_pipeline.core.ports import Heard, ModelFit, Progress, ResponseLoss, ScoringSample

BATCH_TOKENS = {"cpu": 2048, "cuda": 16_384}
"""More bring a processor nothing; a GPU wants more to do."""


class LocalScorer:
    """Scores under the Hugging Face model ``source`` (id or folder), whose files ``weights`` names. They are loaded when losses are
    first asked for. Without ``alone`` the pass that has no prompt is left out, and ``nll_alone`` is nan.

    In float32 a value does not depend on its batch but for the last bits: attention, norms and the head see one pass only, and
    what a matrix product adds up for one token is the same sum in any batch.
    """

    def __init__(
        self,
        source: str,
        numerics: Numerics,
        template: str,
        max_length: int,
        *,
        devices: Sequence[str] = ("cpu",),
        batch_tokens: int | None = None,
        keep: KeepLoaded = "auto",
        progress: Progress | None = None,
        weights: str = "",
        start: Start = "token",
        alone: bool = True,
    ) -> None:
        self._source, self._numerics, self._devices, self._keep = source, numerics, tuple(devices), keep
        self.weights, self._alone = weights, alone
        self._maker = PassBuilder(load_tokenizer(source, weights), template, max_length, start)
        self._budget = batch_tokens or BATCH_TOKENS[numerics.device]
        self._progress = progress

    def fit(self, samples: Sequence[ScoringSample]) -> list[ModelFit]:
        return self._maker.fit(samples)

    def losses(
        self,
        samples: Sequence[ScoringSample],
        kept_chars: Sequence[int],
        heard: Heard | None = None,
        groups: Sequence[int] | None = None,
    ) -> list[ResponseLoss]:
        found = GroupedLosses(self._maker.passes(samples, kept_chars), heard, self._alone, groups)
        if found.passes:
            self._compute(found)
        return found.all()

    def _compute(self, found: GroupedLosses) -> None:
        """Tell the mean loss of each pass; every device takes the next batch when it is done with one."""
        passes = found.passes
        with self._numerics.in_force():
            models = model_cache.take(self._source, self._numerics.dtype, self._devices, self._keep, self.weights)
            if self._progress:
                total = sum(len(item.tokens) for item in passes)
                self._progress.stage(f"scoring under {self._source.rsplit('/', 1)[-1]} (tokens)", total)
            batches = [
                [number + begin for number in members]
                for begin, of_group in found.groups
                for members in models[0].plan(of_group, self._budget)
            ]
            work = _Work(passes, batches, found.done)
        if len(models) == 1:
            self._drain(models[0], work)
        else:
            with ThreadPoolExecutor(len(models)) as pool:
                for done in [pool.submit(self._drain, model, work) for model in models]:
                    done.result()
        self._budget = min(self._budget, work.limit or self._budget)

    def _drain(self, model: CausalLM, work: "_Work") -> None:
        while members := work.next():
            with self._numerics.in_force():  # a batch at a time: other threads embed between them
                means = model.losses(work.passes, members)
            size = work.size(members)
            if means is not None:
                work.done(means)
                if self._progress:
                    self._progress.advance(size)
            elif len(members) > 1:
                work.halve(members)
                if self._progress:
                    self._progress.note(f"out of memory with {size:,} tokens in a batch: going on with {work.limit:,}")
            else:
                raise ModelError(
                    f"scoring model {self._source!r}: memory does not suffice for one response of {size:,} tokens; lower "
                    "scoring.max_length, take scoring.dtype bfloat16, or serve the model (scoring.small/large: MODEL@http://…/v1)"
                )


class _Work:
    """Batches to do, shared between devices; ``told`` hears of means. No batch is larger than ``limit`` tokens once memory ran out."""

    def __init__(
        self, passes: Sequence[ForwardPass], batches: Iterable[list[int]], told: Callable[[int, float], None]
    ) -> None:
        self.passes, self._told = passes, told
        self.limit: int | None = None
        self._todo = deque(batches)
        self._lock = threading.Lock()

    def size(self, members: Sequence[int]) -> int:
        return sum(len(self.passes[number].tokens) for number in members)

    def next(self) -> list[int] | None:
        with self._lock:
            if not self._todo:
                return None
            members = self._todo.popleft()
            while self.limit and len(members) > 1 and self.size(members) > self.limit:
                half = len(members) // 2
                self._todo.appendleft(members[half:])
                members = members[:half]
            return members

    def done(self, means: dict[int, float]) -> None:
        for number, mean in means.items():
            self._told(number, mean)

    def halve(self, members: list[int]) -> None:
        """Put a batch back that memory did not suffice for."""
        with self._lock:
            self.limit = min(self.limit or self.size(members), self.size(members)) // 2
            self._todo.appendleft(members)
