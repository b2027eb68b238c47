"""``star-pipeline export``: the final data set as a file that a trainer reads."""

import difflib
import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

import pyarrow as pa

from star_pipeline.adapters.consistency import misfits
from star_pipeline.adapters.dataset_files import pair_rules
from star_pipeline.adapters.export_files import ENDINGS, WRITERS, ending_of, write_records
from star_pipeline.adapters.lake import Lake
from star_pipeline.adapters.seed_files import seed_files
from star_pipeline.core.errors import ConfigError, LakeError
from star_pipeline.core.planning.consistency import JOINED
from star_pipeline.core.publishing.exports import FORMS, SCORE_FIELDS, ExportForm, NoRecord, Record, Remark, scores
from star_pipeline.core.publishing.preferences import PREFERENCE_SCORE_FIELDS, preference_records
from star_pipeline.core.records import StarRow
from star_pipeline.core.tables import CANDIDATES, COMPOSITE_SCORES, JUDGE_VERDICTS, SEED_SHARDS, STAR_DATASET

STDOUT = "-"
_OF_PAIRS = (SEED_SHARDS, CANDIDATES, JUDGE_VERDICTS, COMPOSITE_SCORES)


@dataclass
class ExportOutcome:
    """How many rows the final data set has, how many became records, why the others did not, and what is odd of those that did.

    ``files``: what a recipe's folder holds of it.
    """

    rows: int = 0
    records: int = 0
    left_out: Counter[NoRecord] = field(default_factory=Counter)
    remarks: Counter[Remark] = field(default_factory=Counter)
    files: tuple[str, ...] = ()


def export(lake: Lake, form: str, output: str, with_scores: bool = False, with_reversed: bool = False) -> ExportOutcome:
    """Write the lake's final data set to ``output`` (a file's name, or ``-``: standard output) in one of FORMS.

    A file that is there is replaced once the new one is whole. Raises ConfigError for a form or an output that cannot be, LakeError
    where there is no final data set, none of its rows gives a record (nothing is written then), or the file cannot be written.
    """
    if form not in FORMS:
        near = difflib.get_close_matches(form.replace("_", "-").lower(), FORMS, 1)
        meant = f" (did you mean {near[0]}?)" if near else ""
        raise ConfigError(f"--format {form!r}: expected one of {', '.join(FORMS)}{meant}")
    chosen = FORMS[form]
    path = None if output == STDOUT else _target(lake, output)
    outcome = ExportOutcome()
    filled: set[str] = set()
    for record in _records(lake, chosen, with_scores, outcome, with_reversed):
        filled |= {name for name in chosen.optional if record[name]}
        if filled.issuperset(chosen.optional):
            break
    if not outcome.records:
        raise LakeError(_nothing(lake, outcome))
    idle = set(chosen.optional) - filled
    added = (PREFERENCE_SCORE_FIELDS if chosen.record is None else SCORE_FIELDS) if with_scores else ()
    schema = pa.schema([*(column for column in chosen.fields if column.name not in idle), *added])
    outcome = ExportOutcome()
    records = _without(idle, _records(lake, chosen, with_scores, outcome, with_reversed))
    if path:
        write_records(path, records, schema)
    else:
        WRITERS[".jsonl" if chosen.by_line else ".json"](sys.stdout.buffer, records, schema)
        sys.stdout.buffer.flush()
    return outcome


def print_export(form: str, output: str, outcome: ExportOutcome) -> None:
    """What was written and what was not, in a few lines; to standard error where the records went to standard output."""
    out = sys.stderr if output == STDOUT else sys.stdout
    what = (
        f"rows for {form}"
        if form not in FORMS
        else "preference pairs"
        if form in ("preference", "reward")
        else f"{form} records"
    )
    where = "" if output == STDOUT else f" in {output}"
    print(f"{outcome.records:,} {what}{where}, of {outcome.rows:,} rows of the final data set", file=out)
    for line in _reasons(outcome):
        print(line, file=out)
    for remark, count in outcome.remarks.most_common():
        print(f"{count:,} of them {remark}", file=out)


def _reasons(outcome: ExportOutcome) -> list[str]:
    return [f"left out {count:,}: {reason}" for reason, count in outcome.left_out.most_common()]


def _nothing(lake: Lake, outcome: ExportOutcome) -> str:
    if not outcome.rows:
        return f"{lake.table(STAR_DATASET)}: no rows, so there is nothing to export; finish a shard with: star-pipeline run"
    why = "; ".join(_reasons(outcome))
    return f"{lake.table(STAR_DATASET)}: no row gives a record ({why}); choose another --format"


def _records(
    lake: Lake, form: ExportForm, with_scores: bool, outcome: ExportOutcome, with_reversed: bool = False
) -> Iterator[Record]:
    """The records in the final data set's order, counted as they go by."""
    made = (
        _pairs(lake, form, with_scores, outcome, with_reversed)
        if form.record is None
        else _by_row(lake, form, with_scores, outcome)
    )
    for record in made:
        outcome.rows += 1
        if isinstance(record, NoRecord):
            outcome.left_out[record] += 1
        else:
            for one in form.of_pair(record):
                outcome.records += 1
                yield one


def _without(idle: set[str], records: Iterable[Record]) -> Iterator[Record]:
    """The records without the fields that none of them fills."""
    for record in records:
        if any(record.pop(name) for name in idle):
            raise LakeError("the final data set was made again while it was read; export it again")
        yield record


def _by_row(lake: Lake, form: ExportForm, with_scores: bool, outcome: ExportOutcome) -> Iterator[Record | NoRecord]:
    assert form.record
    for row in lake.rows(STAR_DATASET):
        record = form.record(row)
        if not isinstance(record, NoRecord):
            outcome.remarks.update(form.remarks([turn.role for turn in row.messages]))
        yield record if isinstance(record, NoRecord) or not with_scores else record | scores(row)


def _pairs(
    lake: Lake, form: ExportForm, with_scores: bool, outcome: ExportOutcome, with_reversed: bool
) -> Iterator[Record | NoRecord]:
    rules = pair_rules(lake)
    for shard, rows in groupby(lake.rows(STAR_DATASET), key=_shard):
        whole = all(lake.has_table(spec, shard) for spec in _OF_PAIRS)
        if not whole or not rules.hold(lake, shard) or any(misfit.table in JOINED for misfit in misfits(lake, shard)):
            yield from (NoRecord.IN_THE_MAKING for _ in rows)
            continue
        candidates, composite = lake.read_table(CANDIDATES, shard), lake.read_table(COMPOSITE_SCORES, shard)
        seeds, verdicts = lake.read_table(SEED_SHARDS, shard), lake.read_table(JUDGE_VERDICTS, shard)
        for record in preference_records(
            rows, seeds, candidates, verdicts, composite, with_scores, with_reversed, rules.barred
        ):
            if not isinstance(record, NoRecord):
                outcome.remarks.update(form.remarks([turn["role"] for turn in record["prompt"]]))
            yield record


def _shard(row: StarRow) -> str:
    return row.shard


def _target(lake: Lake, output: str) -> Path:
    """The file to write, with links followed, since it is to take the place of what they lead to."""
    given = Path(output)
    if "://" in output:
        raise ConfigError(f"--output {output}: expected a file on a local disk, or - for standard output")
    if given.is_dir():
        raise ConfigError(
            f"--output {output}: a folder; expected the name of a file in it, such as {given / 'train.jsonl'}"
        )
    if ending_of(given.name) is None:
        raise ConfigError(
            f"--output {output}: expected a name that ends in {', '.join(ENDINGS)}, or - for standard output"
        )
    path = Path(os.path.realpath(given))
    if not path.parent.is_dir():
        raise ConfigError(f"--output {output}: no folder {path.parent}; make it, or name a file in another one")
    if path.exists() and not path.is_file():
        raise ConfigError(
            f"--output {output}: no regular file; expected one that can be replaced, or - for standard output"
        )
    if lake.root.protocol in ("", "file") and path.is_relative_to(os.path.realpath(str(lake.root))):
        raise ConfigError(
            f"--output {output}: a place inside the lake, which is the pipeline's own; name a file outside of it"
        )
    if path.exists() and path.name in {file.name for file in seed_files(lake.seeds)}:
        raise ConfigError(
            f"--output {output}: named like a seed file of this lake, which it would replace; give it another name"
        )
    return path
