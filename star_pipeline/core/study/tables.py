"""The tables of a study, which lie under ``study/`` in the lake and under their names in ``inspect.duckdb``."""

from star_pipeline.core.study import records
from star_pipeline.core.table_spec import FLOAT, INT, MESSAGES, TEXT, AnyTable, Column, TableSpec

_TARGET = Column("target", TEXT, "the model that was tuned, by its name in the configuration", False)
_ARM = Column("arm", TEXT, "the training set: a rule of this lake, or another lake's name", False)
_MODEL = Column("arm", TEXT, "the training set that the model was tuned on; untuned: on none", False)
_SEED = Column("seed", INT, "the training seed; of untuned the study's first", False)
_QUESTION = Column("question", TEXT, "the question, named by a hash of its content", False)
_SOURCE = Column("source", TEXT, "the file of questions", False)
_CATEGORY = Column("category", TEXT, "the question's category in its file; null: it has none")
_JUDGE = (
    Column("error", TEXT, "why there is no verdict"),
    Column("judge_agent", TEXT, "the agent that was asked; null where nobody was"),
    Column("attempts", INT, "LLM requests sent, retries and re-asks counted in", False),
    Column("prompt_tokens", INT, "tokens sent, all calls booked on this row", False),
    Column("completion_tokens", INT, "tokens received, all calls booked on this row", False),
    Column("cost_usd", FLOAT, "USD for all calls booked on this row", False),
)

ARM_ROWS = TableSpec(
    "arm_rows",
    records.ArmRow,
    (
        Column("seed_id", TEXT, "the seed, named by a hash of its content", False),
        Column("candidate_id", TEXT, "the candidate; null: the seed's own text, where it is no candidate"),
        Column("shard", TEXT, "the shard that holds the seed", False),
        Column(
            "messages", MESSAGES, "the conversation as chat messages, system prompt and earlier turns included", False
        ),
        Column("instruction", TEXT, "the last user turn", False),
        Column("response", TEXT, "the answer to it, which is what is trained on", False),
        Column("pair_id", TEXT, "instruction agent + response agent, or 'seed'", False),
        Column("n_tokens", INT, "the response's tokens under scoring.small's tokenizer", False),
        Column(
            "value", FLOAT, "what the arm's rule looked at; null where it looks at nothing, or had nothing to look at"
        ),
        Column("choice", TEXT, "rule, fallback_base or fallback_seed", False),
    ),
    ("seed_id",),
)
"""``study/arms/<arm>.parquet``."""

STUDY_ARMS = TableSpec(
    "study_arms",
    records.StudyArm,
    (
        _ARM,
        Column("rule", TEXT, "how a row of each seed was chosen; lake: what another lake selected", False),
        Column("rows", INT, "rows to train on", False),
        Column("tokens", INT, "response tokens of all rows, under scoring.small's tokenizer", False),
        Column(
            "fallbacks",
            INT,
            "rows where the rule had no value for any candidate: the reference, or the seed's own",
            False,
        ),
        Column("own", INT, "rows that are the seed's own text", False),
        Column("as_star", INT, "rows with the same text as what Eq. 1 selected"),
        Column("left_out_overlap", INT, "seeds left out of every arm, since they overlap with a question", False),
        Column("left_out_empty", INT, "seeds left out of every arm, since their own response is empty", False),
        Column("left_out_elsewhere", INT, "seeds left out of every arm, since another lake lacks them", False),
        Column("left_out_tokens", INT, "rows left out of this arm, so that all have as many tokens", False),
        Column("digest", TEXT, "names the rows' content, in their order", False),
    ),
    ("arm",),
)

STUDY_LEFT_OUT = TableSpec(
    "study_left_out",
    records.StudyLeftOut,
    (
        Column("seed_id", TEXT, "the seed, named by a hash of its content", False),
        Column("shard", TEXT, "the shard that holds the seed", False),
        Column("reason", TEXT, "overlap, empty_response or not_in_lake", False),
        Column("question", TEXT, "the question that it overlaps with"),
        Column("detail", TEXT, "the same in words: which text, and what it shares", False),
    ),
    ("seed_id",),
)

STUDY_ANSWERS = TableSpec(
    "study_answers",
    records.StudyAnswer,
    (
        _TARGET, _MODEL, _SEED, _QUESTION,
        Column("turn", INT, "which turn is answered, from 1", False),
        _SOURCE, _CATEGORY,
        Column("text", TEXT, "the model's answer; null: it gave none"),
        Column("status", TEXT, "ok; cut_off: at max_tokens; else why there is none", False),
        Column("error", TEXT, "the same in words"),
        Column("tokens", INT, "tokens of the answer", False),
    ),
    ("target", "arm", "seed", "question", "turn", "source"),
)  # fmt: skip

STUDY_LOSSES = TableSpec(
    "study_losses",
    records.StudyLoss,
    (
        _TARGET, _MODEL, _SEED, _QUESTION, _SOURCE, _CATEGORY,
        Column("nll", FLOAT, "mean loss of the reference answer given its instruction, nats a token; null: not scored"),
        Column("n_tokens", INT, "tokens of the answer that were scored"),
        Column("status", TEXT, "ok, or why it could not be scored (as in ifd_scores)", False),
    ),
    ("target", "arm", "seed", "question"),
)  # fmt: skip

STUDY_WINS = TableSpec(
    "study_wins",
    records.StudyWin,
    (
        _TARGET, _MODEL, _SEED, _QUESTION,
        Column("baseline", TEXT, "the arm that was compared with, tuned with the same seed", False),
        _SOURCE, _CATEGORY,
        Column("verdict", TEXT, "better, worse, tie, inconsistent, unparsed or failed", False),
        Column("verdict_first", TEXT, "the arm's fate as answer A: better, worse, tie or null"),
        Column("verdict_swapped", TEXT, "the arm's fate as answer B: better, worse, tie or null"),
        Column("win", FLOAT, "1, 0.5 (a tie, or turned round with the order) or 0; null without a verdict"),
        Column("length", INT, "characters of the arm's answer", False),
        Column("length_baseline", INT, "characters of the baseline's answer", False),
        Column("reply_first", TEXT, "the judge's words, the arm as answer A"),
        Column("reply_swapped", TEXT, "the judge's words, the arm as answer B"),
        *_JUDGE,
    ),
    ("target", "arm", "seed", "question", "baseline"),
)  # fmt: skip

STUDY_GRADES = TableSpec(
    "study_grades",
    records.StudyGrade,
    (
        _TARGET, _MODEL, _SEED, _QUESTION,
        Column("turn", INT, "which turn's answer, from 1", False),
        _SOURCE, _CATEGORY,
        Column("grade", FLOAT, "1 to 10; null: the judge gave none"),
        Column("reply", TEXT, "the judge's words"),
        *_JUDGE,
    ),
    ("target", "arm", "seed", "question", "turn"),
)  # fmt: skip

STUDY_TASKS = TableSpec(
    "study_tasks",
    records.StudyTask,
    (
        _TARGET, _MODEL, _SEED,
        Column("task", TEXT, "lm-eval's task, or ifeval", False),
        Column("metric", TEXT, "the metric's name", False),
        Column("question", TEXT, "the question's name in its task", False),
        Column("value", FLOAT, "what the metric says of it", False),
    ),
    ("target", "arm", "seed", "task", "metric", "question"),
)  # fmt: skip

STUDY_RESULTS = TableSpec(
    "study_results",
    records.StudyResult,
    (
        _TARGET,
        Column(
            "measure", TEXT, "held_out_loss, win_rate, length_controlled_win_rate, grade, or a task's metric", False
        ),
        Column("part", TEXT, "category, task or file of questions; all: every one", False),
        _MODEL,
        Column("baseline", TEXT, "what the difference is from", False),
        Column("better", TEXT, "lower or higher", False),
        Column("figure", FLOAT, "the arm's mean over questions and training seeds", False),
        Column("figure_low", FLOAT, "lower end of its 95% interval"),
        Column("figure_high", FLOAT, "upper end of its 95% interval"),
        Column(
            "difference", FLOAT, "the arm's figure minus the baseline's, paired by question; null: it is the baseline"
        ),
        Column("low", FLOAT, "lower end of the difference's 95% interval (Student-t, clustered by question)"),
        Column("high", FLOAT, "upper end of the difference's 95% interval (Student-t, clustered by question)"),
        Column("boot_low", FLOAT, "lower end by bootstrap over questions"),
        Column("boot_high", FLOAT, "upper end by bootstrap over questions"),
        Column("p", FLOAT, "two-sided p of no difference, of the Student-t"),
        Column("p_holm", FLOAT, "p after Holm's correction over the arms of this measure and part"),
        Column("n", INT, "questions behind the difference", False),
        Column("missing", INT, "questions that one of the two has no value for", False),
        Column("seeds", INT, "training seeds", False),
        Column("seeds_low", FLOAT, "lower end of the 95% interval over training seeds (Student-t); null with one seed"),
        Column(
            "seeds_high", FLOAT, "upper end of the 95% interval over training seeds (Student-t); null with one seed"
        ),
        Column("needed", INT, "questions to show a difference as the one seen (power 0.8); null: none was seen"),
        Column("detectable", FLOAT, "smallest difference that these questions would show (power 0.8)"),
        Column("shown", TEXT, "better, worse, seeds disagree, no difference shown; null: it is the baseline"),
        Column("words", TEXT, "the same in words", False),
        Column("tuning", FLOAT, "the arm's figure minus the untuned target's, paired by question", later=True),
        Column("tuning_low", FLOAT, "lower end of its 95% interval (Student-t, clustered by question)", later=True),
        Column("tuning_high", FLOAT, "upper end of its 95% interval (Student-t, clustered by question)", later=True),
        Column("tuning_p_holm", FLOAT, "its p after Holm's correction over the arms", later=True),
        Column("tuning_shown", TEXT, "whether tuning on the arm is shown to be better or worse than none", later=True),
    ),
    ("target", "measure", "part", "arm"),
)

STUDY_TABLES: tuple[AnyTable, ...] = (
    STUDY_ARMS,
    STUDY_LEFT_OUT,
    STUDY_ANSWERS,
    STUDY_LOSSES,
    STUDY_WINS,
    STUDY_GRADES,
    STUDY_TASKS,
    STUDY_RESULTS,
)
"""The tables of which a lake has one, in the order of the flow."""
