"""What every scorer of planned batches does, wherever these are computed: tokens, passes, and losses of samples out of theirs."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

from star_pipeline.adapters.scoring.batch_plan import ExecutionModes, plan_batches
from star_pipeline.adapters.scoring.batch_work import BatchWork
from star_pipeline.adapters.scoring.numerics import Numerics
from star_pipeline.adapters.scoring.paired_losses import GroupedLosses
from star_pipeline.adapters.scoring.tokenizer import PassBuilder, load_tokenizer
from star_pipeline.core.equations.ifd_templates import Start
from star_pipeline.core.ports import Heard, ModelFit, Progress, ResponseLoss, ScoringSample

BATCH_TOKENS = {"cpu": 2048, "cuda": 16_384}
"""More bring a processor nothing; a GPU wants more to do."""


class PassScorer(ABC):
    """Scores under the Hugging Face model ``source`` (id or folder), whose files ``weights`` names. Without ``alone`` the pass that has
    no prompt is left out, and ``nll_alone`` is nan."""

    def __init__(
        self,
        source: str,
        numerics: Numerics,
        template: str,
        max_length: int,
        *,
        batch_tokens: int | None = None,
        progress: Progress | None = None,
        weights: str = "",
        start: Start = "token",
        alone: bool = True,
    ) -> None:
        self._source, self._numerics = source, numerics
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

    @abstractmethod
    def _compute(self, found: GroupedLosses) -> None:
        """Tell the mean loss of each pass."""

    def _planned(
        self, found: GroupedLosses, borders: Sequence[int], ways_of: Callable[[int], ExecutionModes]
    ) -> BatchWork:
        """The batches of each group by itself."""
        if self._progress:
            total = sum(len(item.tokens) for item in found.passes)
            self._progress.stage(f"scoring under {self._source.rsplit('/', 1)[-1]} (tokens)", total)
        batches = [
            [number + begin for number in members]
            for begin, of_group in found.groups
            for members in plan_batches(of_group, self._budget, borders, ways_of)
        ]
        return BatchWork(self._source, found.passes, batches, found.done, self._progress)

    def _learn(self, work: BatchWork) -> None:
        """What memory did not suffice for is not tried again."""
        self._budget = min(self._budget, work.limit or self._budget)
