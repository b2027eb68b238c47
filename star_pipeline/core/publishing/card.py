"""The data set card (README.md with Hugging Face's YAML front matter): what the data is, how it was made, and with what."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import yaml

from star_pipeline.core.aliases import JsonMapping, JsonObject
from star_pipeline.core.health.lines import in_words
from star_pipeline.core.markdown import inline, table
from star_pipeline.core.publishing.card_texts import LIMITS, LOADING, SEVERAL, TRACING, TRAINING
from star_pipeline.core.publishing.makeup import makeup, origin_of
from star_pipeline.core.publishing.manifest import Configuration
from star_pipeline.core.publishing.overlap import LENGTH
from star_pipeline.core.records import SEED_PAIR, HealthLine, LeftOutRow, StarRow, TaskDomain

_SIZES = (
    (1_000, "n<1K"),
    (10_000, "1K<n<10K"),
    (100_000, "10K<n<100K"),
    (1_000_000, "100K<n<1M"),
    (10_000_000, "1M<n<10M"),
)
_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
_MOST_LISTED = 30
_TYPES = {"double": "float64", "float": "float32"}
_MEANING = {
    "best": "the candidate with the highest positive π of its seed",
    "fallback_base": "the reference, since no candidate had a positive π",
    "fallback_seed": "the seed's own response, since the reference failed too",
}
_VERDICTS = {
    "better": "than the reference, in both orders",
    "worse": "than the reference, in both orders",
    "tie": "as good as the reference",
    "inconsistent": "the judge changed its mind with the order of the answers",
    "skipped": "not asked, since the gap is not positive and π is 0 whatever the judge says",
    "unparsed": "the judge was asked, and gave no verdict",
    "failed": "the judge did not answer",
}


@dataclass(frozen=True)
class CardFacts:
    """What the card tells beside the rows; ``num_bytes`` in memory, ``download_size`` the file's bytes.

    ``dataset`` are the settings that decide what is published, ``verdicts`` those on all candidates of the shards, of which
    ``flipped`` turned round with the order. ``configurations`` made the shards; they hold no server's address. ``health`` are the
    run's lines, of which the card tells those that are unfit. ``decontaminated`` names the files of evaluation questions.
    ``differences`` are those that machines were allowed to have which scored together: model → the largest, in nats.
    """

    name: str
    schema: pa.Schema
    num_bytes: int
    download_size: int
    dataset: JsonMapping
    domains: Sequence[TaskDomain]
    left_out: Sequence[LeftOutRow]
    verdicts: Mapping[str, int]
    flipped: int
    configurations: Sequence[Configuration]
    health: Sequence[HealthLine] = ()
    decontaminated: Sequence[str] = ()
    differences: Mapping[str, float] = field(default_factory=dict)


def dataset_card(rows: Sequence[StarRow], facts: CardFacts) -> str:
    """Markdown with front matter, of the rows of a final data set. A licence is named only where the configuration has one."""
    parts = (
        f"---\n{yaml.safe_dump(front_matter(len(rows), facts), sort_keys=False, allow_unicode=True)}---\n",
        f"# {_line(facts.name)}\n",
        f"{len(rows):,} samples for instruction tuning: of each seed the candidate that suited the target model best, among those that "
        "several agent-pairs made of it and its own response (Star-Agents, [arXiv 2411.14497](https://arxiv.org/abs/2411.14497)).\n",
        _unfit(facts.health),
        _columns(),
        _selections(rows, facts),
        _scores(rows, facts.differences),
        _domains(rows, facts.domains),
        _left_out(facts),
        _verdicts(facts),
        "## How it was made\n",
        *(_configuration(used, len(facts.configurations)) for used in facts.configurations),
        LOADING,
        _training(rows, facts),
        TRACING,
        _who_wrote(rows, facts),
        LIMITS,
    )
    return "\n".join(part for part in parts if part)


def _training(rows: Sequence[StarRow], facts: CardFacts) -> str:
    several = len({(row.source, row.source_row) for row in rows}) < len(rows)
    scoring = next((used.settings["scoring"] for used in facts.configurations if used.settings), None)
    model, limit, target = "your/target-model", 2048, ""
    if scoring:
        small, limit = scoring["small"], scoring["max_length"]
        model, form = (small, None) if isinstance(small, str) else (small["model"], small.get("template"))
        form = form or scoring["template"]
        target = f", {_line(model)}, as it was scored (template `{form}`, at most {limit:,} tokens)"
    told = TRAINING.format(target=target, model=json.dumps(model), limit=limit)
    return "## How to train on it\n\n" + (SEVERAL if several else "") + told


def front_matter(rows: int, facts: CardFacts) -> JsonObject:
    """The card's metadata as plain data, with the features as `datasets` writes them."""
    split = {"name": "train", "num_bytes": facts.num_bytes, "num_examples": rows}
    licence = facts.dataset.get("license")
    return {
        "pretty_name": f"{' '.join(facts.name.split())} (Star-Agents)",
        **({"license": licence} if licence else {}),
        "task_categories": ["text-generation"],
        "size_categories": [size_category(rows)],
        "tags": ["star-agents", "instruction-tuning", "sft", "synthetic"],
        "configs": [
            {"config_name": "default", "data_files": [{"split": "train", "path": "star_dataset.parquet"}]},
        ],
        "dataset_info": {
            "features": [_feature(field) for field in facts.schema],
            "splits": [split],
            "download_size": facts.download_size,
            "dataset_size": facts.num_bytes,
        },
    }


def size_category(rows: int) -> str:
    """The hub's name for a data set of so many rows."""
    return next((label for limit, label in _SIZES if rows < limit), "10M<n<100M")


def _feature(field: pa.Field) -> JsonObject:
    kind = field.type
    if pa.types.is_list(kind) and pa.types.is_struct(kind.value_type):
        return {
            "name": field.name,
            "list": [_feature(kind.value_type.field(n)) for n in range(kind.value_type.num_fields)],
        }
    return {"name": field.name, "dtype": _TYPES.get(str(kind), str(kind))}


def _unfit(health: Sequence[HealthLine]) -> str:
    unfit = [line for line in health if line.verdict == "unfit"]
    told = "".join(f"- **{line.signature}**: {_line(in_words(line))}\n" for line in unfit)
    return (
        f"**Unfit.** What this data was chosen by carries no information in these respects:\n\n{told}" if told else ""
    )


def _columns() -> str:
    return (
        "`messages` holds the whole conversation; `instruction` and `response` its last turns. `pi` = `pi_llm` · `pi_dual` is what the "
        "row was chosen by: the judge's verdict times how much better a larger model copes with it than the target (`gap` = `ifd_small` − "
        "`ifd_large`, instruction-following difficulty under both). `pair_id` names the pair that made it.\n"
    )


def _selections(rows: Sequence[StarRow], facts: CardFacts) -> str:
    selections = Counter(row.selection for row in rows)
    bases = [tuple(used.settings["pairs"]["base"]) for used in facts.configurations if used.settings]
    references = {base[0] for base in bases}
    others = {pair_id for base in bases for pair_id in base}
    made_of = makeup((origin_of(row.pair_id, references, others), row.pair_id, 1) for row in rows)
    told = {**dict.fromkeys(references, " (the reference)"), SEED_PAIR: " (the seed's own response, unchanged)"}
    pairs = Counter(f"{row.pair_id}{told.get(row.pair_id, '')}" for row in rows)
    return "\n".join(
        (
            "## Where the rows come from\n",
            f"Of the {len(rows):,} rows: {made_of}.\n" if rows else "",
            _table(("selection", "rows", "meaning"), ((s, n, _MEANING[s]) for s, n in selections.most_common())),
            _table(("made by (instruction + response agent)", "rows", "share"), _shares(pairs, len(rows))),
        )
    )


def _scores(rows: Sequence[StarRow], differences: Mapping[str, float]) -> str:
    head = ("score", "rows with it", "mean", *(f"{share:.0%}" for share in _QUANTILES))
    lines = []
    for name in ("pi", "gap", "ifd_small", "ifd_large"):
        values = [value for row in rows if (value := getattr(row, name)) is not None]
        if values:
            numbers = (float(np.mean(values)), *map(float, np.quantile(values, _QUANTILES)))
            lines.append((f"`{name}`", len(values), *(f"{number:.4f}" for number in numbers)))
    several = "".join(
        f"\nMachines that do not compute the same to the last bit scored under {_line(model)}: mean losses of one text differ between them "
        f"by up to {largest:.2g} nats.\n"
        for model, largest in sorted(differences.items())
    )
    return f"## Scores\n\nMean and quantiles.\n\n{_table(head, lines)}{several}" if lines else ""


def _domains(rows: Sequence[StarRow], domains: Sequence[TaskDomain]) -> str:
    here = {row.seed_id for row in rows}
    found = Counter((row.domain, row.domain_name) for row in domains if row.seed_id in here)
    if not found:
        return ""
    ordered = sorted(found.items())
    lines = ((domain, name, count, f"{count / len(rows):.1%}") for (domain, name), count in ordered[:_MOST_LISTED])
    more = f"\n… and {len(ordered) - _MOST_LISTED:,} more domains.\n" if len(ordered) > _MOST_LISTED else ""
    return (
        "## What they are about\n\nClusters of the instructions' embeddings, named by typical words.\n\n"
        f"{_table(('domain', 'words', 'rows', 'share'), lines)}{more}"
    )


def _left_out(facts: CardFacts) -> str:
    knobs = facts.dataset
    most = knobs["near_duplicates"]
    group = "all rows" if most is None else f"at most {most:,}, the best,"
    said = (
        f"fallbacks: {knobs['fallbacks']}; least π: {knobs['min_pi']:g}; {group} of a group of near-duplicates (cosine of at least "
        f"{knobs['near_duplicate_similarity']:g}); share kept, by π: {knobs['top_share']:g}."
    )
    if most := knobs.get("rows"):
        told = ", ".join(f"{inline(name)} {100 * share:g}%" for name, share in knobs.get("domain_shares", {}).items())
        by = f"by these shares: {told}; the others in proportion" if told else "in proportion"
        said = f"{said[:-1]}; of those at most {most:,}, the best by π of each domain, {by}."
    if facts.decontaminated:
        files = ", ".join(inline(name) for name in facts.decontaminated)
        said = (
            f"decontaminated: no row, nor the seed that it was made from, shares {LENGTH} words in a row with a question or reference "
            f"answer of {files}, or asks a shorter one word for word; {said}"
        )
    reasons = Counter(row.reason for row in facts.left_out)
    table = _table(("left out by", "rows"), reasons.most_common()) if reasons else "Nothing was left out.\n"
    return f"## What was kept\n\nOf each seed's chosen candidate, in this order: {said}\n\n{table}"


def _verdicts(facts: CardFacts) -> str:
    if not facts.verdicts:
        return ""
    heard = sum(facts.verdicts.get(name, 0) for name in ("better", "worse", "tie", "inconsistent"))
    rate = (
        f" {facts.flipped:,} of {heard:,} ({facts.flipped / heard:.1%}) turned round when the two answers changed places."
        if heard
        else ""
    )
    lines = sorted(facts.verdicts.items(), key=lambda item: (-item[1], item[0]))
    return (
        f"## What the judge said\n\nVerdicts on all candidates of these shards, against the reference of their seed.{rate}\n\n"
        f"{_table(('verdict', 'candidates', 'meaning'), ((name, count, _VERDICTS.get(name, '')) for name, count in lines))}"
    )


def _offline(settings: JsonMapping) -> bool:
    return all(str(agent["model"]).startswith("offline/") for agent in settings["agents"].values())


def _who_wrote(rows: Sequence[StarRow], facts: CardFacts) -> str:
    known = [used.settings for used in facts.configurations if used.settings]
    kept = sum(row.pair_id == SEED_PAIR for row in rows)
    own = "the responses" + (f", all but {kept:,} of the seeds' own" if kept else "")
    if known and all(map(_offline, known)):
        return f"- Rules, no LLM, wrote {own}; the offline profile shows how the pipeline works, and its data is no training data."
    return f"- The text is synthetic: LLMs wrote {own}; nobody has read it. It may be wrong, biased or unsafe."


def _configuration(used: Configuration, of: int) -> str:
    title = f"### {_line(used.name)} (`{used.fingerprint}`)\n" if of > 1 else f"Configuration `{used.fingerprint}`.\n"
    settings = used.settings
    if settings is None:
        return f"{title}\nIts settings were not kept.\n"
    scoring, judge, evolution, sampling = (settings[part] for part in ("scoring", "judge", "evolution", "sampling"))
    agents = settings["agents"]
    lines = [
        *(
            f"- agent `{name}`: {_line(agent['model'])}{_prompts(name, agent, settings['pairs'])}{_sampled_with(agent)}"
            for name, agent in agents.items()
        ),
        f"- target model (small): {_named(scoring['small'])}; beside it (large): {_named(scoring['large'])}; "
        f"template `{scoring['template']}`, at most {scoring['max_length']:,} tokens",
        f"- judge: {_judged_by(judge)}",
        f"- pairs drawn from: {_listing(settings['pairs'])}; called for every seed: {', '.join(settings['pairs']['base'])}, "
        "of which the first makes the reference that the judge compares with",
        f"- {sampling['pairs_per_seed']} pairs drawn for each seed, {sampling['from_memory']} of them from memory (Eq. 3); "
        f"seed of the random numbers {sampling['seed']}",
        f"- π_dual is {_gap_of(scoring)} over the {scoring['divisor']} of the positive gaps of the {scoring['divide_over']}, within "
        "0 and 1 (Eq. 5)",
        f"- {_evolving(evolution)}",
    ]
    if lag := evolution.get("lag"):
        lines.append(
            f"- lag {lag}: a shard's pairs were drawn from the probabilities and the memory after the shard {1 + lag} places before it"
        )
    if settings.get("seeds", {}).get("turns") == "every":
        lines.insert(0, "- every answer of a conversation is a seed, given the turns before it")
    if _offline(settings):
        lines.append(
            "- **no LLM wrote this**: the offline profile's agents transform text by rules, and its data is no training data"
        )
    return f"{title}\n" + "\n".join(lines) + "\n"


def _evolving(evolution: JsonMapping) -> str:
    """Settings of earlier versions, and of Eq. 8, name no ``method``."""
    costs = f"; {evolution['cost_weight']:g} π a USD are taken off for cost" if evolution.get("cost_weight") else ""
    if evolution.get("method", "eq8") == "thompson":
        return f"pairs are drawn by Thompson sampling from what their π were, with floor {evolution['floor']:g}{costs}"
    return f"probabilities of the pairs evolve with rate {evolution['rate']:g} and floor {evolution['floor']:g} (Eq. 8){costs}"


def _judged_by(judge: JsonMapping) -> str:
    """By whom and how; settings of earlier versions, and of one judge that writes, name neither ``agents`` nor ``mode``."""
    names = ", ".join(f"`{name}`" for name in judge.get("agents") or (judge["agent"],))
    majority = " (the majority decides)" if judge.get("agents") else ""
    ties = "; ties lose" if judge.get("ties") == "lose" else ""
    if judge.get("mode") == "logprobs":
        what = "as p_better" if judge["soft"] else f"as a tie up to {judge['margin']:g}"
        return f"{names}{majority}, whose log-odds for one letter are read in both orders; their margin counts {what}{ties}"
    form = " as JSON" if judge.get("mode") == "json" else ""
    return f"{names}{majority}, asked in both orders{form}; a reversal counts as {judge['on_reversal']}{ties}"


def _listing(pairs: JsonMapping) -> str:
    if pairs["sampled"]:
        return ", ".join(pairs["sampled"])
    return f"each of {', '.join(pairs['instruction'])} with each of {', '.join(pairs['response'])}"


def _prompts(name: str, agent: JsonMapping, pairs: JsonMapping) -> str:
    """Which of its prompts the agent is called with."""
    parts = [pair.split("+") for pair in (*pairs["sampled"], *pairs["base"]) if "+" in pair]
    rewrites = name in pairs["instruction"] or any(name == rewriter for rewriter, _ in parts)
    responds = name in pairs["response"] or any(name == responder for _, responder in parts)
    told = [f"rewrites with `{agent['instruction_prompt']}`"] if rewrites else []
    told += [f"responds with `{agent['response_prompt']}`"] if responds else []
    return f", {', '.join(told)}" if told else ""


def _sampled_with(agent: JsonMapping) -> str:
    told = ", ".join(
        f"{name} {value}" for name, value in agent.get("params", {}).items() if isinstance(value, int | float)
    )
    return f"; {told}" if told else ""


def _gap_of(scoring: JsonMapping) -> str:
    """What Eq. 5 works on, of the settings of any version."""
    calibration, least = scoring.get("calibration", "none"), scoring.get("least_tokens", 1)
    among = {
        "rank": " of each model in the shard",
        "rank_by_length": " of each model among responses of like length in the shard",
    }
    said = f"the gap between the ranks of the IFD{among[calibration]}" if calibration in among else "the gap"
    start = {"skip_first": "without the response's first token", "newline": "after a newline"}.get(
        scoring.get("start", "token")
    )
    notes = [f"IFD {start}"] if start else []
    notes += [f"responses of fewer than {least:,} tokens have none"] if least > 1 else []
    return f"{said} ({'; '.join(notes)})" if notes else said


def _named(model: str | JsonMapping) -> str:
    """A scoring model without its server's address: the card may be published, and that is the team's own affair."""
    if isinstance(model, str):
        return _line(model)
    told = ["on a server"] if "tokenizer" in model else []
    told += [f"template `{model['template']}`"] if model.get("template") else []
    return f"{_line(model['model'])} ({', '.join(told)})"


def _shares(counts: Counter[str], of: int) -> Iterable[tuple[str, int, str]]:
    return ((name, count, f"{count / of:.1%}") for name, count in counts.most_common())


def _table(head: Sequence[str], lines: Iterable[Sequence[object]]) -> str:
    """A Markdown table; empty lines of it are not drawn at all."""
    return table(head, ([f"{cell:,}" if isinstance(cell, int) else _line(cell) for cell in line] for line in lines))


def _line(text: object) -> str:
    """A text that breaks neither a line nor a table; what stands in backticks is our own, and stays as it is."""
    return str(text) if re.fullmatch(r"`\w+`", str(text)) else inline(text)
