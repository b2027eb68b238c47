"""``calibration/`` in the lake: what was found of each configuration, what it was measured on, and the same in words."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa
from upath import UPath

from star_pipeline.adapters.lake import Lake, arrow_table
from star_pipeline.core.calibration.findings import DETAILS, FINDINGS, CalibrationFinding
from star_pipeline.core.calibration.words import page
from star_pipeline.core.errors import LakeError, StoreError
from star_pipeline.core.table_spec import AnyTable

_WORDS = "README.md"
Details = Mapping[str, Sequence[Any]]  # Any: a table's name says of which record its rows are


def keep_calibration(lake: Lake, found: Sequence[CalibrationFinding], details: Details, fingerprint: str) -> None:
    """Keep a calibration in the place of an earlier one of the same settings; those of other settings stay. ``details`` by table.

    The findings come last: where they are, what they were measured on is there too.
    """
    for spec in DETAILS:
        rows = [replace(row, fingerprint=fingerprint) for row in details[spec.name]]
        _write(lake, spec, [*(row for row in _rows(lake, spec) if row.fingerprint != fingerprint), *rows])
    others = [row for row in read_findings(lake) if row.fingerprint != fingerprint]
    _write(lake, FINDINGS, [*others, *found])
    lake.write_bytes(lake.calibration / _WORDS, page(found).encode())


def read_findings(lake: Lake, fingerprint: str | None = None) -> list[CalibrationFinding]:
    """Of one configuration's ``calibration_fingerprint``, or of all; none where nothing was calibrated. Raises LakeError."""
    rows: list[CalibrationFinding] = _rows(lake, FINDINGS)
    return [row for row in rows if fingerprint in (None, row.fingerprint)]


def calibrated_since(lake: Lake, made: UPath) -> bool:
    """Whether something was calibrated after this file was written."""
    findings = _path(lake, FINDINGS)
    return findings.exists() and findings.stat().st_mtime > made.stat().st_mtime


def words_of(lake: Lake) -> UPath:
    """Where the last calibration stands in words."""
    return lake.calibration / _WORDS


def _write(lake: Lake, spec: AnyTable, rows: Sequence[Any]) -> None:  # Any, here and below: the record of the table
    lake.write_bytes(_path(lake, spec), lake.encoded(spec, spec.to_arrow(rows)))


def _rows(lake: Lake, spec: AnyTable) -> list[Any]:
    path = _path(lake, spec)
    try:
        return list(spec.from_arrow(arrow_table(io.BytesIO(path.read_bytes())))) if path.exists() else []
    except StoreError:
        raise
    except (OSError, pa.ArrowInvalid, LakeError) as error:
        raise LakeError(
            f"{path} cannot be read ({error}); remove the folder and calibrate again: star-pipeline calibrate"
        ) from error


def _path(lake: Lake, spec: AnyTable) -> UPath:
    return lake.calibration / f"{spec.name}.parquet"
