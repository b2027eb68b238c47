"""Who judges, and how the question is put (Eq. 6)."""

from pydantic import Field, model_validator

from star_pipeline.config.params import Params, optional_params
from star_pipeline.config.section import Section
from star_pipeline.core.equations.judge_modes import JudgeMode
from star_pipeline.core.equations.verdicts import OnReversal, Ties


class JudgeConfig(Section):
    agent: str | None = Field(None, description="the agent that judges")
    agents: tuple[str, ...] = Field((), description="in place of agent: several that judge, and the majority decides")
    mode: JudgeMode = Field(
        "written",
        description="written: a comparison, then [A], [B] or [C]; json: the same as an object; logprobs: one token, whose probabilities "
        "are read in both orders, so that a lean on position cancels (small judges; the server has to tell logprobs)",
    )
    margin: float = Field(
        0.0, ge=0, le=100, description="with logprobs: log-odds beyond which a candidate is better or worse, else a tie"
    )
    soft: bool = Field(False, description="with logprobs: pi_llm is the probability p_better in place of 1, 0.5 or 0")
    attempts: int = Field(2, ge=1, le=10, description="tries per order to get a readable verdict; logprobs: one")
    on_reversal: OnReversal = Field(
        "tie", description="a win in one order that is a loss in the other; with logprobs the margin decides"
    )
    ties: Ties = Field(
        "half",
        description="half: of a tie, or a reversal that counts as one, pi_llm is 0.5 as the reference's, and the gap decides; lose: 0, "
        "and only what the judge prefers takes the reference's place (weak judges; with base: [seed] chance replaces no seed)",
    )
    skip_nonpositive_gap: bool = Field(
        True, description="do not ask where the gap is not positive, since pi is 0 anyway"
    )
    params: Params = Field(
        default_factory=lambda: {"temperature": 0.0}, description="override the agent's params when it judges"
    )

    @model_validator(mode="after")
    def _one_way(self) -> "JudgeConfig":
        if (self.agent is None) == (not self.agents):
            raise ValueError("agent: expected either agent, one name, or agents, a list of names")
        if len(set(self.agents)) < len(self.agents):
            raise ValueError("agents names an agent twice")
        if self.mode != "logprobs" and (self.soft or self.margin != type(self).model_fields["margin"].default):
            raise ValueError("margin and soft belong to mode: logprobs; set it, or take them out")
        if self.soft and self.ties == "lose":
            raise ValueError("ties: lose does not go with soft, which knows no ties; take one of them out")
        return self

    @property
    def judges(self) -> tuple[str, ...]:
        return self.agents or (self.agent or "",)

    @property
    def optional(self) -> frozenset[str]:
        """Parameters that are there by default only: a judge that refuses them goes without."""
        return optional_params(self, self.params, self.mode)

    @property
    def later_defaults(self) -> set[str]:
        """Settings that earlier versions did not have, where they say what those did: no part of a fingerprint."""
        same = {
            name for name in ("mode", "agents", "ties") if getattr(self, name) == type(self).model_fields[name].default
        }
        return same | ({"margin", "soft"} if self.mode != "logprobs" else set())
