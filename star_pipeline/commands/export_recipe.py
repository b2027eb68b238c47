"""``star-pipeline export --for TRAINER``: a folder that trains the target, with data, configuration and README."""

import difflib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import pyarrow as pa
from pydantic import TypeAdapter, ValidationError

from star_pipeline.adapters import hub_push
from star_pipeline.adapters.dataset_files import read_manifest
from star_pipeline.adapters.export_files import write_records
from star_pipeline.adapters.hub_push import checked_token
from star_pipeline.adapters.lake import Lake, whole_file
from star_pipeline.adapters.study.form import Form, TargetTexts
from star_pipeline.commands.export import STDOUT, ExportOutcome, export, print_export
from star_pipeline.config.scoring import ScoringConfig, ServedModel
from star_pipeline.core.aliases import JsonObject
from star_pipeline.core.errors import ConfigError, LakeError
from star_pipeline.core.ports import ScoringSample
from star_pipeline.core.publishing.export_card import file_card, front_matter
from star_pipeline.core.publishing.exports import FORMS, NoRecord, Remark
from star_pipeline.core.publishing.recipes import DATA, RECIPES, Target, folder_files
from star_pipeline.core.records import StarRow
from star_pipeline.core.tables import IFD_SCORES, STAR_DATASET

_AT_ONCE = 512


@dataclass(frozen=True)
class Push:
    """Where on the hub what was exported goes, if anywhere."""

    repo: str | None = None
    public: bool = False


def told_export(
    root: str,
    output: str,
    form: str | None,
    trainer: str | None,
    target: str | None = None,
    with_scores: bool = False,
    with_reversed: bool = False,
    push: Push = Push(),  # frozen
) -> None:
    """The command: a file in a form, or a trainer's folder, and what is said of it; pushed where that is asked for. Raises StarError."""
    if push.public and push.repo is None:
        raise ConfigError("--public: of what? expected --push OWNER/NAME beside it")
    if push.repo is not None and output == STDOUT:
        raise ConfigError("--push: expected a file or a folder to push; name one with --output")
    token = checked_token(push.repo) if push.repo is not None else ""
    lake = Lake.at(root)
    if form is not None and trainer is None and target is None:
        outcome = export(lake, form, output, with_scores, with_reversed)
        print_export(form, output, outcome)
        path = Path(output)
        card = file_card(_title(lake), form, path.name, outcome.records, _licence(lake))
        files: dict[str, Path | bytes] = {path.name: path, "README.md": card.encode()}
    elif form is None and trainer is not None and not with_scores and not with_reversed:
        outcome = export_recipe(lake, trainer, output, target)
        print_export(trainer, output, outcome)
        files = {name: Path(output) / name for name in outcome.files}
    else:
        raise ConfigError(
            f"expected either --format FORM (one of {', '.join(FORMS)}; --with-scores and --with-reversed go with it) or --for TRAINER "
            f"(one of {', '.join(RECIPES)}; --target goes with it)"
        )
    if push.repo is not None:
        made = hub_push.push(push.repo, token, files, push.public, f"star-pipeline export: {form or trainer}")
        who = "private" if made.private else "public"
        print(f"{'pushed to' if made.changed else 'nothing new for'} {made.url} ({who}), {len(files):,} files")


def export_recipe(lake: Lake, trainer: str, output: str, model: str | None = None) -> ExportOutcome:
    """Write the folder ``output`` for one of RECIPES; files of these names that are there are replaced.

    The target is ``model``, or scoring.small as the lake's rows were scored by it; its tokenizer is loaded, no weights.
    Raises ConfigError, LakeError and ModelError.
    """
    if trainer not in RECIPES:
        near = difflib.get_close_matches(trainer.replace("-", "").lower(), RECIPES, 1)
        meant = f" (did you mean {near[0]}?)" if near else ""
        raise ConfigError(f"--for {trainer!r}: expected one of {', '.join(RECIPES)}{meant}")
    folder = _folder(lake, output)
    scoring = _scored_with(lake)
    small = scoring.small
    source = model or (small.tokenizer_source if isinstance(small, ServedModel) else str(small))
    if source.startswith("offline/"):
        raise ConfigError(
            f"--for {trainer}: the rows were scored for {source}, which is no model that can be trained; run with a real scoring.small, "
            "or name one: --target MODEL"
        )
    texts = TargetTexts(source, Form.of(small, scoring), scoring.max_length)
    outcome = ExportOutcome()
    records = list(_records(lake, texts, trainer, outcome))
    if not records:
        why = "; ".join(f"left out {count:,}: {reason}" for reason, count in outcome.left_out.most_common())
        raise LakeError(
            f"{lake.table(STAR_DATASET)}: no row to train on{f' ({why})' if why else ''}; run: star-pipeline run"
        )
    front = front_matter(_title(lake), DATA, len(records), _licence(lake))
    files = folder_files(trainer, _target(source, texts, len(records)), front)
    folder.mkdir(exist_ok=True)
    write_records(folder / DATA, records, pa.schema([]))
    for name, text in files.items():
        with whole_file(folder / name) as file:
            file.write(text.encode())
    outcome.files = (DATA, *files)
    return outcome


def _title(lake: Lake) -> str:
    name = (read_manifest(lake) or {}).get("name", "Final data set")
    return f"{' '.join(str(name).split())} (Star-Agents)"


def _licence(lake: Lake) -> str | None:
    """The one that the data set was published with."""
    named = (read_manifest(lake) or {}).get("dataset", {}).get("license")
    return str(named) if named else None


def _target(source: str, texts: TargetTexts, rows: int) -> Target:
    tokenizer, here = texts.tokenizer_to_keep(source), Path(source).is_dir()
    return Target(
        model=os.path.abspath(source) if here else source,
        here=here,
        template=texts.form.template,
        limit=texts.limit,
        rows=rows,
        chat_template=str(tokenizer.chat_template),
        architecture=texts.architecture,
        pad=int(tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id),
    )


def _records(lake: Lake, texts: TargetTexts, trainer: str, outcome: ExportOutcome) -> Iterator[JsonObject]:
    record = RECIPES[trainer].record
    rest = iter(lake.rows(STAR_DATASET))
    while some := list(islice(rest, _AT_ONCE)):
        for row, text in zip(some, texts.written([_sample(row) for row in some]), strict=True):
            outcome.rows += 1
            if text is None:
                outcome.left_out[NoRecord.NO_ROOM] += 1
                continue
            outcome.records += 1
            outcome.remarks.update([Remark.CUT] if text.cut else [])
            origin = {"seed_id": row.seed_id, "pair_id": row.pair_id, "candidate_id": row.candidate_id}
            yield {**record(text.prompt, text.completion), "metadata": origin}


def _sample(row: StarRow) -> ScoringSample:
    turns = row.messages[:-2]
    system = turns[0].content if turns and turns[0].role == "system" else None
    return ScoringSample(system, turns[1:] if system is not None else turns, row.instruction, row.response)


def _scored_with(lake: Lake) -> ScoringConfig:
    """The settings of the last shard's scores. Raises LakeError where there are none."""
    shards: Sequence[str] = lake.shards_of(IFD_SCORES)
    said = (lake.read_arrow(IFD_SCORES, shards[-1], []).schema.metadata or {}) if shards else {}
    try:
        return TypeAdapter(ScoringConfig).validate_python(json.loads(said[b"config_settings"])["scoring"])
    except (KeyError, ValueError, ValidationError) as error:
        raise LakeError(
            f"{lake.root}: no scores that say how the target was scored, which the recipe needs; finish a shard with: star-pipeline run"
        ) from error


def _folder(lake: Lake, output: str) -> Path:
    path = Path(os.path.realpath(output))
    if output == "-" or "://" in output or (path.exists() and not path.is_dir()):
        raise ConfigError(
            f"--output {output}: expected the name of a folder on a local disk, since a recipe is several files"
        )
    if not path.parent.is_dir():
        raise ConfigError(f"--output {output}: no folder {path.parent}; make it, or name a folder in another one")
    if lake.root.protocol in ("", "file") and path.is_relative_to(os.path.realpath(str(lake.root))):
        raise ConfigError(
            f"--output {output}: a place inside the lake, which is the pipeline's own; name a folder outside of it"
        )
    return path
