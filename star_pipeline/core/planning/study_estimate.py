"""What a study would train, ask and cost, as figures."""

from collections.abc import Mapping
from dataclasses import dataclass

from star_pipeline.core.planning.cost_estimate import AgentEstimate


@dataclass(frozen=True)
class StudyEstimate:
    """Of a study of which nothing is done yet. ``tokens`` are those trained on over all epochs of all ``trainings``; ``flops`` by target
    (6 N tokens), a reason in place of the number where a model's size cannot be had. ``answers``: turns that the tuned models answer;
    None, with ``problem``, where the questions cannot be read, and then what judges cost is not known either."""

    trainings: int
    rows: int
    tokens: int
    flops: Mapping[str, float | str]
    answers: int | None
    agents: tuple[AgentEstimate, ...]
    problem: str | None = None

    @property
    def usd(self) -> float | None:
        return self._sum([line.usd for line in self.agents])

    @property
    def most_usd(self) -> float | None:
        return self._sum([line.most_usd for line in self.agents])

    def _sum(self, values: list[float | None]) -> float | None:
        return None if self.problem or None in values else sum(value or 0.0 for value in values)
