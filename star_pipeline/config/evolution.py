"""How the pairs' probabilities follow from what their candidates earned: Thompson sampling, or Eq. 8."""

from pydantic import Field, model_validator

from star_pipeline.config.section import Section
from star_pipeline.core.aliases import JsonObject
from star_pipeline.core.equations.evolution import EvolutionRules, Method


class EvolutionConfig(Section):
    method: Method = Field(
        "thompson",
        description="thompson: each seed draws a quality of every pair from what its π so far tell, and calls the highest; eq8: the "
        "paper's, probabilities rise by rate. Where rate is given and method is not: eq8",
    )
    rate: float = Field(0.05, ge=0, le=1, description="β of Eq. 8; 0 switches evolution off. thompson has none")
    cost_weight: float = Field(
        0.0,
        ge=0,
        le=1e9,
        description="π that a USD is worth: a pair counts as its mean π less this times what its draws cost; 0: costs do not count",
    )
    floor: float = Field(0.0, ge=0, le=1, description="least probability of a pair; at most 1/K")
    lag: int = Field(
        0,
        ge=0,
        le=100,
        description="L: a shard's plan is drawn from the probabilities and the memory after the shard 1 + L places before it, so that "
        "L + 1 shards can be in work at once; 0: the paper's order",
    )

    @model_validator(mode="before")
    @classmethod
    def _as_the_rate_says(cls, given: object) -> object:
        """Before there was a method, there was a rate: who gave one goes on as before."""
        return (
            {**given, "method": "eq8"}
            if isinstance(given, dict) and "rate" in given and "method" not in given
            else given
        )

    @model_validator(mode="after")
    def _rate_of_eq8(self) -> "EvolutionConfig":
        if self.method == "thompson" and self.rate == 0:
            raise ValueError("rate: 0 switches method: eq8 off, and thompson has no rate; take method out, or the rate")
        return self

    @property
    def rules(self) -> EvolutionRules:
        return EvolutionRules(self.rate if self.method == "eq8" else 0.0, self.floor, self.method, self.cost_weight)

    @property
    def deciding(self) -> JsonObject:
        """As plain data, without what came later where it does what was done before, and without a rate that nothing reads."""
        idle = {"lag"} if not self.lag else set()
        idle |= {"cost_weight"} if not self.cost_weight else set()
        return self.model_dump(mode="json", exclude=idle | ({"method"} if self.method == "eq8" else {"rate"}))
