"""``study/`` in the lake: the training sets, and the tables of what was measured."""

import json
from collections.abc import Sequence
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
from upath import UPath

from star_pipeline.adapters.lake import Lake, arrow_table
from star_pipeline.core.errors import LakeError
from star_pipeline.core.study.arms import content
from star_pipeline.core.study.records import ArmRow, StudyArm, StudyLeftOut, StudyResult
from star_pipeline.core.study.tables import ARM_ROWS, STUDY_ARMS, STUDY_LEFT_OUT, STUDY_RESULTS, STUDY_TABLES
from star_pipeline.core.table_spec import TableSpec

R = TypeVar("R")
DIGEST = b"arm_digest"
"""In an arm's own metadata: names the rows' content (``StudyArm.digest``)."""
_MADE_OF = b"arm_digests"
"""In the results' own metadata: arm -> ``StudyArm.digest`` of the rows that their models were tuned on."""
_REMEDY = "make the arms again: star-pipeline study"


def write_arms(
    lake: Lake, rows: dict[str, list[ArmRow]], told: Sequence[StudyArm], left_out: Sequence[StudyLeftOut]
) -> None:
    """Write a file an arm, then what is told of them, last, so that what it names is there. Files of arms that are no more go."""
    for arm in told:
        table = ARM_ROWS.to_arrow(rows[arm.arm])
        table = table.replace_schema_metadata({**(table.schema.metadata or {}), DIGEST: arm.digest.encode()})
        lake.write_bytes(lake.arm(arm.arm), lake.encoded(ARM_ROWS, table))
    lake.write_table(STUDY_LEFT_OUT, STUDY_LEFT_OUT.to_arrow(left_out))
    lake.write_table(STUDY_ARMS, STUDY_ARMS.to_arrow(told))
    for path in (lake.study / "arms").glob("*.parquet"):
        if path.stem not in rows:
            path.unlink()


def read_arm(lake: Lake, name: str) -> list[ArmRow]:
    """The rows of an arm, in the order in which they are named. Raises LakeError where it is not there, or was changed."""
    path = lake.arm(name)
    try:
        with path.open("rb") as file:
            said = pq.read_schema(file).metadata or {}
        with path.open("rb") as file:
            rows = ARM_ROWS.from_arrow(arrow_table(file))
    except FileNotFoundError as error:
        raise LakeError(f"{path} is not there; {_REMEDY}") from error
    except (pa.ArrowInvalid, OSError) as error:
        raise LakeError(f"{path} cannot be read: {error}; {_REMEDY}") from error
    if said.get(DIGEST, b"").decode() != content(rows):
        raise LakeError(f"{path}: its rows are not those that it was written with; {_REMEDY}")
    return rows


def studied_since(lake: Lake, made: UPath) -> bool:
    """Whether a table of a study was written after this file."""
    tables = [lake.table(spec) for spec in STUDY_TABLES if lake.has_table(spec)]
    return any(table.stat().st_mtime > made.stat().st_mtime for table in tables)


def study_rows(lake: Lake, spec: TableSpec[R]) -> list[R]:
    """The rows of one of a study's tables; none where it was not made yet."""
    return lake.read_table(spec) if lake.has_table(spec) else []


def write_study_rows(lake: Lake, spec: TableSpec[Any], rows: Sequence[object]) -> None:
    """Replace one of a study's tables. Any: the spec looks at the rows' fields."""
    lake.write_table(spec, spec.to_arrow(rows))


def write_results(lake: Lake, rows: Sequence[StudyResult], arms: Sequence[StudyArm]) -> None:
    """Replace the results, which say of themselves what rows the ``arms`` had."""
    table = STUDY_RESULTS.to_arrow(rows)
    made_of = json.dumps({arm.arm: arm.digest for arm in arms}).encode()
    lake.write_table(STUDY_RESULTS, table.replace_schema_metadata({**(table.schema.metadata or {}), _MADE_OF: made_of}))


def outdated_arms(lake: Lake) -> list[str]:
    """The arms whose results are of other rows than the training sets have now: made anew since, or gone. None where all fit."""
    if not (lake.has_table(STUDY_RESULTS) and lake.has_table(STUDY_ARMS)):
        return []
    now = {arm.arm: arm.digest for arm in lake.read_table(STUDY_ARMS)}
    results = lake.read_arrow(STUDY_RESULTS, columns=["arm"])
    if said := (results.schema.metadata or {}).get(_MADE_OF):
        return [arm for arm, digest in json.loads(said).items() if now.get(arm) != digest]
    # an earlier version's do not say it, but came after the arms that they were made of
    older = lake.table(STUDY_RESULTS).stat().st_mtime < lake.table(STUDY_ARMS).stat().st_mtime
    return list(dict.fromkeys(results.column("arm").to_pylist())) if older else []
