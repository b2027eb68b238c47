"""One explicit Arrow schema a table. What is written is checked against it; the UI and the inspection file show its texts."""

import pyarrow as pa

from star_pipeline.core import records
from star_pipeline.core.table_spec import BOOL, FLOAT, INT, MESSAGES, OPINIONS, TEXT, AnyTable, Column, TableSpec

_SEED_ID = Column("seed_id", TEXT, "the seed, named by a hash of its content", False)
_CANDIDATE_ID = Column("candidate_id", TEXT, "the candidate: a hash of seed_id, pair_id and snapshot_id", False)
_SLOT = Column("slot", INT, "place among the seed's candidates; 0 is the reference", False)
_PAIR_ID = Column("pair_id", TEXT, "instruction agent + response agent, or 'seed'", False)
_PROMPT_TOKENS = Column("prompt_tokens", INT, "tokens sent, all calls booked on this row", False)
_COMPLETION_TOKENS = Column("completion_tokens", INT, "tokens received, all calls booked on this row", False)
_COST = Column("cost_usd", FLOAT, "USD for all calls booked on this row; what rows share is booked on the first", False)
_CALIBRATED = Column(
    "gap_calibrated",
    FLOAT,
    "the gap of the models' ranks in the shard (scoring.calibration); null without calibration",
    later=True,
)
_SOURCE = Column("source", TEXT, "seed file, relative to seeds/", False)
_SOURCE_ROW = Column(
    "source_row", INT, "record in the seed file, counted from 1; turns of one conversation share it", False
)

_SEED_COLUMNS = (
    _SEED_ID,
    _SOURCE,
    _SOURCE_ROW,
    Column("system", TEXT, "system prompt, if any"),
    Column("history", MESSAGES, "earlier turns, oldest first", False),
    Column("instruction", TEXT, "the user turn that the response answers", False),
    Column("response", TEXT, "the seed's own response; may be empty", False),
)

SHARD_MANIFEST = TableSpec("shard_manifest", records.Seed, _SEED_COLUMNS, ("seed_id",))
SEED_SHARDS = TableSpec("seed_shards", records.Seed, _SEED_COLUMNS, ("seed_id",))

SEED_CATALOG = TableSpec(
    "seed_catalog",
    records.CatalogEntry,
    (
        _SEED_ID,
        Column("shard", TEXT, "the shard that holds the seed, for good", False),
        Column("position", INT, "row in the shard, from 0", False),
        _SOURCE,
        _SOURCE_ROW,
        Column("live", BOOL, "false once no seed file holds the record any more (tombstone)", False),
    ),
    ("seed_id",),
)

REJECTED_ROWS = TableSpec(
    "rejected_rows",
    records.RejectedRow,
    (_SOURCE, _SOURCE_ROW, Column("reason", TEXT, "why the record is no seed, with the field at fault", False)),
    ("source", "source_row", "reason"),
)

SAMPLING_PLAN = TableSpec(
    "sampling_plan",
    records.PlanRow,
    (
        _CANDIDATE_ID,
        _SEED_ID,
        _SLOT,
        _PAIR_ID,
        Column("instruction_agent", TEXT, "rewrites the instruction; 'keep' changes nothing", False),
        Column("response_agent", TEXT, "responds; 'seed' is the seed's own response", False),
        Column("origin", TEXT, "base: called for every seed; seed: free; memory or explore: drawn (Eq. 3)", False),
        Column("probability", FLOAT, "the pair's probability in the snapshot; null where it was not drawn"),
        Column("snapshot_id", TEXT, "the snapshot that the draw used", False),
        Column("neighbour_seed_ids", pa.list_(TEXT), "nearest seeds in the memory bank, nearest first", False),
        Column("neighbour_pair_ids", pa.list_(TEXT), "the pairs that made those neighbours", False),
        Column("neighbour_similarities", pa.list_(FLOAT), "cosines of those neighbours", False),
    ),
    ("candidate_id",),
)

CANDIDATES = TableSpec(
    "candidates",
    records.Candidate,
    (
        _CANDIDATE_ID,
        _SEED_ID,
        _SLOT,
        _PAIR_ID,
        Column("instruction", TEXT, "the instruction answered, rewritten or not (Eq. 2)"),
        Column("response", TEXT, "the response (Eq. 2); null where the candidate failed"),
        Column("status", TEXT, "ok or failed", False),
        Column("error_kind", TEXT, "why it failed, as a word to count by"),
        Column("error", TEXT, "why it failed, in full"),
        Column("attempts", INT, "LLM requests sent, retries counted in", False),
        _PROMPT_TOKENS,
        _COMPLETION_TOKENS,
        _COST,
        Column("latency_s", FLOAT, "seconds spent waiting for the LLMs", False),
        Column("rewrite_attempts", INT, "how many of the attempts were the instruction agent's", False),
        Column("rewrite_prompt_tokens", INT, "how many of the prompt tokens were the instruction agent's", False),
        Column(
            "rewrite_completion_tokens", INT, "how many of the completion tokens were the instruction agent's", False
        ),
        Column("rewrite_cost_usd", FLOAT, "how much of the USD was the instruction agent's", False),
        Column(
            "warnings",
            pa.list_(TEXT),
            "what may be wrong though it did not fail: partial_input, template_words, added_text, refused_answer, other_script; null: none",
            later=True,
        ),
    ),
    ("candidate_id",),
)


def _ifd_columns(model: str) -> tuple[Column, ...]:
    return (
        Column(f"n_tokens_{model}", INT, f"response tokens scored by the {model} model"),
        Column(f"nll_given_{model}", FLOAT, f"mean loss given the instruction, nats a token, {model} model"),
        Column(f"nll_alone_{model}", FLOAT, f"mean loss without the instruction, nats a token, {model} model"),
        Column(f"ifd_{model}", FLOAT, f"PPL(R|I) / PPL(R) under the {model} model (Eq. 4)"),
    )


IFD_SCORES = TableSpec(
    "ifd_scores",
    records.IfdScore,
    (
        _CANDIDATE_ID,
        _SEED_ID,
        Column(
            "status",
            TEXT,
            "ok, no_candidate, empty_response, prompt_refused (by the chat template), unknown_token (without an embedding), "
            "prompt_too_long, not_finite, or too_short (fewer tokens than scoring.least_tokens: IFDs, but no gap)",
            False,
        ),
        Column("truncated", BOOL, "the response was cut at its end to fit", False),
        *_ifd_columns("small"),
        *_ifd_columns("large"),
        Column("gap", FLOAT, "ifd_small - ifd_large"),
        _CALIBRATED,
    ),
    ("candidate_id",),
)

JUDGE_VERDICTS = TableSpec(
    "judge_verdicts",
    records.JudgeVerdict,
    (
        _CANDIDATE_ID,
        _SEED_ID,
        Column("base_candidate_id", TEXT, "the reference compared with; null: the seed's own response, no candidate"),
        Column(
            "template",
            TEXT,
            "judge_answers or judge_samples, with _json or _letter by judge.mode; null where nothing was asked",
        ),
        Column("verdict", TEXT, "better, worse, tie, inconsistent, unparsed, skipped or failed", False),
        Column("verdict_first", TEXT, "the candidate's fate as answer A: better, worse, tie or null"),
        Column("verdict_swapped", TEXT, "the candidate's fate as answer B: better, worse, tie or null"),
        Column("flipped", BOOL, "a win in one order was a loss in the other", False),
        Column("pi_llm", FLOAT, "1, 0.5, 0 or null (Eq. 6); p_better with judge.soft"),
        Column("reply_first", TEXT, "the judge's words, candidate as answer A"),
        Column("reply_swapped", TEXT, "the judge's words, candidate as answer B"),
        Column("error", TEXT, "why there is no verdict"),
        Column("attempts", INT, "LLM requests sent, retries and re-asks counted in", False),
        _PROMPT_TOKENS,
        _COMPLETION_TOKENS,
        _COST,
        Column("judge_agent", TEXT, "the agent that was asked, several with commas between; null where nobody was"),
        Column("log_odds_first", FLOAT, "log p(A) - log p(B), candidate as answer A; judge.mode: logprobs", later=True),
        Column(
            "log_odds_swapped", FLOAT, "log p(A) - log p(B), candidate as answer B; judge.mode: logprobs", later=True
        ),
        Column("margin", FLOAT, "(log_odds_first - log_odds_swapped) / 2: for the candidate above 0", later=True),
        Column(
            "p_better", FLOAT, "sigma(margin): how likely the judge thinks that the candidate is better", later=True
        ),
        Column("judges", OPINIONS, "what each of several judges said, in these columns; null with one", later=True),
    ),
    ("candidate_id",),
)

COMPOSITE_SCORES = TableSpec(
    "composite_scores",
    records.CompositeScore,
    (
        _CANDIDATE_ID,
        _SEED_ID,
        _SLOT,
        _PAIR_ID,
        Column("gap", FLOAT, "ifd_small - ifd_large"),
        Column("pi_dual", FLOAT, "min(1, max(gap, 0) / divisor) (Eq. 5), of gap_calibrated where there is one"),
        Column("pi_llm", FLOAT, "the judge's part (Eq. 6); 0.5 for the reference"),
        Column("pi", FLOAT, "pi_llm * pi_dual (Eq. 7)"),
        Column("rank", INT, "place in the seed, best first; null where pi is"),
        Column("selected", BOOL, "the seed's one candidate for the final data set (Eq. 1)", False),
        Column("selection", TEXT, "best, fallback_base, fallback_seed; null where not selected"),
        _CALIBRATED,
    ),
    ("candidate_id",),
)

AGENT_PAIR_PROBABILITIES = TableSpec(
    "agent_pair_probabilities",
    records.PairProbability,
    (
        Column("snapshot_id", TEXT, "this snapshot, named by its history and numbers", False),
        Column("parent_snapshot_id", TEXT, "the snapshot before", False),
        Column("shard", TEXT, "the shard after which it was taken", False),
        _PAIR_ID,
        Column("n_sampled", INT, "candidates of this pair drawn in the shard", False),
        Column("reward", FLOAT, "sum of their pi", False),
        Column("probability_before", FLOAT, "before the shard", False),
        Column("probability", FLOAT, "after the shard: the chance that it is the first pair that a seed draws", False),
        Column("draws_total", INT, "its draws so far; evolution.method: thompson, as the columns after it", later=True),
        Column("reward_total", FLOAT, "sum of their pi", later=True),
        Column("squares_total", FLOAT, "sum of its squares", later=True),
        Column("cost_total_usd", FLOAT, "what they cost; null without evolution.cost_weight", later=True),
        Column("handicap", FLOAT, "evolution.cost_weight * mean cost of a draw, in pi", later=True),
        Column("floor", FLOAT, "evolution.floor that the next plan draws with", later=True),
    ),
    ("pair_id",),
)

STAR_DATASET = TableSpec(
    "star_dataset",
    records.StarRow,
    (
        _SEED_ID,
        Column("messages", MESSAGES, "system, history, instruction and response as chat messages", False),
        Column("instruction", TEXT, "the selected instruction", False),
        Column("response", TEXT, "the selected response", False),
        _PAIR_ID,
        Column("pi", FLOAT, "pi_llm * pi_dual of the selected candidate"),
        Column("pi_dual", FLOAT, "Eq. 5"),
        Column("pi_llm", FLOAT, "Eq. 6"),
        Column("ifd_small", FLOAT, "IFD under the small model (Eq. 4)"),
        Column("ifd_large", FLOAT, "IFD under the large model (Eq. 4)"),
        Column("gap", FLOAT, "ifd_small - ifd_large"),
        Column("shard", TEXT, "the shard it was made in", False),
        _SOURCE,
        _SOURCE_ROW,
        _CANDIDATE_ID,
        Column("selection", TEXT, "best, fallback_base or fallback_seed", False),
    ),
    ("seed_id",),
)

TASK_DOMAINS = TableSpec(
    "task_domains",
    records.TaskDomain,
    (
        _SEED_ID,
        _CANDIDATE_ID,
        Column("shard", TEXT, "the shard it was made in", False),
        Column("domain", INT, "the domain of its instruction; 0 has the most rows", False),
        Column("domain_name", TEXT, "typical words of the domain's instructions", False),
        Column("nearest_seed_id", TEXT, "the row with the nearest instruction; null where there is no other row"),
        Column("nearest_similarity", FLOAT, "cosine to it, to six decimals"),
        Column(
            "near_duplicate_of", TEXT, "leader of its group of near-duplicates; its own seed_id where it leads", False
        ),
    ),
    ("seed_id",),
)

LEFT_OUT_ROWS = TableSpec(
    "left_out_rows",
    records.LeftOutRow,
    (
        _SEED_ID,
        Column("shard", TEXT, "the shard it was made in", False),
        _CANDIDATE_ID,
        Column(
            "reason",
            TEXT,
            "overlap, fallback, min_pi, near_duplicate, top_share or rows: the setting that kept it out",
            False,
        ),
        Column("detail", TEXT, "the same in words, with the row's value and the setting's", False),
    ),
    ("seed_id",),
)

SPEND = TableSpec(
    "spend",
    records.AgentSpend,
    (
        Column("agent", TEXT, "the agent that was paid", False),
        Column("stage", TEXT, "rewrite, respond, judge or grade", False),
        Column("replies", INT, "replies paid by this lake", False),
        Column("prompt_tokens", INT, "tokens sent, as the servers count", False),
        Column("completion_tokens", INT, "tokens received, as the servers count", False),
        Column("cost_usd", FLOAT, "USD for these replies; the tables' cost_usd is how they were put to use", False),
        Column(
            "reservations",
            INT,
            "tries in flight, or whose fate nobody knows (timeout, reset, kill); only with a budget",
            False,
        ),
        Column(
            "reserved_usd", FLOAT, "USD that these tries may have cost at most; it counts against the budget", False
        ),
    ),
    ("agent", "stage"),
)

CONFIGS = TableSpec(
    "configs",
    records.ConfigUse,
    (
        Column("fingerprint", TEXT, "names the settings that decide a run's content", False),
        Column("name", TEXT, "the configuration's name", False),
        Column("settings", TEXT, "those settings as JSON; null where the tables do not hold them"),
        Column("first_shard", TEXT, "first shard with a table that it made", False),
        Column("last_shard", TEXT, "last shard with a table that it made", False),
        Column("tables", INT, "how many of the lake's tables it made", False),
    ),
    ("fingerprint", "name"),
)

ORIGINS = TableSpec(
    "origins",
    records.TableOrigin,
    (
        Column("made", TEXT, "the table of shards", False),
        Column("shard", TEXT, "the shard", False),
        Column("fingerprint", TEXT, "the configuration that made it (see configs)", False),
        Column("name", TEXT, "the configuration's name", False),
    ),
    ("made", "shard"),
)

HEALTH_LINES = TableSpec(
    "health_lines",
    records.HealthLine,
    (
        Column("signature", TEXT, "a signature of a run that means nothing", False),
        Column("verdict", TEXT, "fine, doubtful or unfit", False),
        Column("what", TEXT, "what the figure is", False),
        Column("unit", TEXT, "share, difference or correlation", False),
        Column("figure", FLOAT, "null where nothing tells"),
        Column("low", FLOAT, "lower end of its 95% interval"),
        Column("high", FLOAT, "upper end of its 95% interval"),
        Column("n", INT, "how many things a share is of, else how many seeds", False),
        Column("meaning", TEXT, "what the figure means here", False),
        Column("remedy", TEXT, "what to do; empty where the verdict is fine", False),
    ),
    ("signature",),
)

COST_COLUMNS = frozenset(
    column.name
    for column in CANDIDATES.columns
    if column.name.endswith(("attempts", "_tokens", "cost_usd", "latency_s"))
)
"""What a row cost, which differs from run to run (retries, who of two asked first) and means nothing downstream."""

SHARD_TABLES: tuple[AnyTable, ...] = (
    SEED_SHARDS,
    SAMPLING_PLAN,
    CANDIDATES,
    IFD_SCORES,
    JUDGE_VERDICTS,
    COMPOSITE_SCORES,
    AGENT_PAIR_PROBABILITIES,
)
"""The tables with one file a shard, in the order of the flow."""

TABLES: dict[str, AnyTable] = {
    spec.name: spec
    for spec in (
        *SHARD_TABLES,
        SHARD_MANIFEST,
        SEED_CATALOG,
        REJECTED_ROWS,
        TASK_DOMAINS,
        STAR_DATASET,
        LEFT_OUT_ROWS,
    )
}
