"""The port's scorer over a model in this process: few tokens, full batches, every device."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from star_pipeline.adapters.scoring import model_cache
from star_pipeline.adapters.scoring.batch_work import BatchWork
from star_pipeline.adapters.scoring.causal_lm import BatchLosses, CausalLM
from star_pipeline.adapters.scoring.numerics import Numerics
from star_pipeline.adapters.scoring.paired_losses import GroupedLosses
from star_pipeline.adapters.scoring.pass_scorer import BATCH_TOKENS as BATCH_TOKENS
from star_pipeline.adapters.scoring.pass_scorer import PassScorer
from star_pipeline.config.scoring import KeepLoaded
from star_pipeline.core.equations.ifd_templates import Start
from star_pipeline.core.ports import Progress


class LocalScorer(PassScorer):
    """The model is loaded when losses are first asked for.

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
        super().__init__(
            source, numerics, template, max_length,
            batch_tokens=batch_tokens, progress=progress, weights=weights, start=start, alone=alone,
        )  # fmt: skip
        self._devices, self._keep = tuple(devices), keep

    def _compute(self, found: GroupedLosses) -> None:
        """Tell the mean loss of each pass; every device takes the next batch when it is done with one."""
        with self._numerics.in_force():
            models = model_cache.take(self._source, self._numerics, self._devices, self._keep, self.weights)
            work = self._planned(found, models[0].lengths.borders, models[0].ways_of)
        if len(models) == 1:
            self._drain(models[0], work)
        else:
            with ThreadPoolExecutor(len(models)) as pool:
                for done in [pool.submit(self._drain, model, work) for model in models]:
                    done.result()
        self._learn(work)

    def _drain(self, model: CausalLM, work: BatchWork) -> None:
        """A GPU is given a batch while it is busy with the one before."""
        before: tuple[list[int], BatchLosses] | None = None
        while members := work.next():
            with self._numerics.in_force():  # a batch at a time: other threads embed between them
                begun = model.begin(work.passes, members)
            if before:
                work.done(before[0], before[1].means())
            before = (members, begun) if begun and model.device != "cpu" else None
            if not before:
                work.done(members, begun.means() if begun else None)
        if before:
            work.done(before[0], before[1].means())
