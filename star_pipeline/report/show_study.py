"""After a study: the inspection file and the report made again, so that both hold it."""

from star_pipeline.adapters.journal.opening import read_spend
from star_pipeline.adapters.lake import Lake
from star_pipeline.adapters.locks import lake_lock
from star_pipeline.adapters.snapshots import stale_tables
from star_pipeline.config import StarConfig
from star_pipeline.inspection.build import build_inspection
from star_pipeline.report.build import build_report
from star_pipeline.report.read import open_inspection
from star_pipeline.report.study import StudySection, study_section


def show_study(lake: Lake, settings: StarConfig, owner: str) -> StudySection | None:
    """Returns what the report says of it."""
    with lake_lock(settings, lake).hold_publishing(owner):
        spend = read_spend(settings, lake)
        build_inspection(lake, spend, list(stale_tables(lake)))
        lake.write_bytes(lake.report, build_report(lake).html)
    with open_inspection(lake) as inspection:
        return study_section(inspection)
