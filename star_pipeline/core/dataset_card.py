"""The data set card (README.md with Hugging Face's YAML front matter): how the data was made, and with what."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from star_pipeline.core.records import StarRow

_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


def dataset_card(rows: Sequence[StarRow], name: str, settings: Mapping[str, Any]) -> str:
    """Markdown for the rows of a final data set; ``settings`` is the configuration as plain data. No licence is claimed."""
    size = next((label for limit, label in _SIZES if len(rows) < limit), "n>1M")
    selections = Counter(row.selection for row in rows)
    pairs = Counter(row.pair_id for row in rows)
    scoring, judge, evolution = settings["scoring"], settings["judge"], settings["evolution"]
    agents = settings["agents"]
    lines = [
        "---",
        f"pretty_name: {name} (Star-Agents)",
        "task_categories: [text-generation]",
        f"size_categories: [{size}]",
        "configs:",
        "- config_name: default",
        "  data_files: star_dataset.parquet",
        "tags: [star-agents, instruction-tuning, synthetic]",
        "---",
        "",
        f"# {name}",
        "",
        f"{len(rows):,} instruction samples, each the candidate that scored best for its seed (Star-Agents, arXiv 2411.14497).",
        "",
        "| selection | rows |",
        "|---|---|",
        *(f"| {selection} | {count:,} |" for selection, count in selections.most_common()),
        "",
        "| agent-pair (instruction + response) | rows |",
        "|---|---|",
        *(f"| {pair} | {count:,} |" for pair, count in pairs.most_common()),
        "",
        "## How it was made",
        "",
        *(f"- agent `{agent}`: {settings_of['model']}" for agent, settings_of in agents.items()),
        f"- target model (small): {_named(scoring['small'])}; beside it (large): {_named(scoring['large'])}; "
        f"template {scoring['template']}, at most {scoring['max_length']} tokens",
        f"- judge: `{judge['agent']}`, asked in both orders; a reversal counts as {judge['on_reversal']}",
        f"- Eq. 5 divides by the {scoring['divisor']} of the positive gaps over the {scoring['divide_over']}; "
        f"Eq. 8 with rate {evolution['rate']} and floor {evolution['floor']}",
        "",
        "`fallback_base` rows are the reference's, where no candidate had a positive score; `fallback_seed` rows are the seed's own.",
    ]
    return "\n".join(lines) + "\n"


def _named(model: str | Mapping[str, Any]) -> str:
    """A scoring model without its server's address: the card may be published, and that is the team's own affair."""
    return model if isinstance(model, str) else f"{model['model']} (on a server)"
