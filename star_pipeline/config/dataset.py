"""The settings under ``dataset``."""

from fractions import Fraction

from pydantic import Field, model_validator

from star_pipeline.config.section import Section
from star_pipeline.config.study import Files
from star_pipeline.core.aliases import JsonObject
from star_pipeline.core.publishing.rows import Fallbacks


class DatasetConfig(Section):
    """What of the selected rows goes into the final data set, and how it is described. Costs no LLM call."""

    decontaminate: Files = Field(
        (),
        description="files of evaluation questions, as seed files or in the form of MT-bench, Vicuna-bench, WizardLM's or Koala's test "
        "set, or data sets' hub names: rows that share 13 words in a row with one, or ask it word for word, are left out",
    )

    fallbacks: Fallbacks = Field("keep", description="drop: leave out seeds for which no candidate is best")
    min_pi: float = Field(0.0, ge=0, le=1, description="least pi of a row; above 0, fallbacks are left out too")
    near_duplicates: int | None = Field(
        None, ge=1, description="most rows of one group of near-duplicates, the best; null: all"
    )
    top_share: float = Field(
        1.0, gt=0, le=1, description="share of the rows to keep, the best by pi; applied to what those before left"
    )
    rows: int | None = Field(
        None,
        ge=1,
        description="rows of the final data set: the best by pi of each task domain, in proportion to what the others left of it; "
        "null: all",
    )
    domain_shares: dict[str, float] = Field(
        {},
        description="with rows: what share of them each of these task domains has, by its name or a word of its name alone, such as "
        "{math: 0.3}; the other domains share the rest in proportion",
    )
    near_duplicate_similarity: float = Field(
        0.95, gt=0, le=1, description="cosine of the instructions' embeddings from which rows are near-duplicates"
    )
    domains: int | None = Field(
        None,
        ge=1,
        le=1000,
        description="task domains that the rows are grouped into; null: by their number, at most 30",
    )
    license: str | None = Field(
        None,
        pattern=r"^[a-z0-9][a-z0-9.+-]*$",
        description="licence in the data set card, by the hub's name for it, such as apache-2.0; null: none is claimed",
    )

    @model_validator(mode="after")
    def _shares(self) -> "DatasetConfig":
        for name, share in self.domain_shares.items():
            if not 0 <= share <= 1:
                raise ValueError(f"domain_shares: {name!r} has {share:g}; expected a share from 0 to 1")
        if (total := sum(Fraction(str(share)) for share in self.domain_shares.values())) > 1:
            raise ValueError(f"domain_shares: they sum to {float(total):g}; expected at most 1")
        if self.domain_shares and self.rows is None:
            raise ValueError("domain_shares: shares of how many rows? set rows beside it")
        return self

    @property
    def settled(self) -> JsonObject:
        """The settings as plain data, without files, which the manifest names by their contents."""
        later = {name for name in ("rows", "domain_shares") if not getattr(self, name)}  # as before there were any
        return self.model_dump(mode="json", exclude={"decontaminate", *later})
