"""After a study: the inspection file and the report made again, so that both hold it."""

from star_pipeline.adapters.lake import Lake
from star_pipeline.adapters.llm.journal import read_spend
from star_pipeline.adapters.lock import hold_publishing
from star_pipeline.adapters.snapshots import stale_tables
from star_pipeline.config import StarConfig
from star_pipeline.inspection.build import build_inspection
from star_pipeline.report.build import build_report


def show_study(lake: Lake, settings: StarConfig, owner: str) -> None:
    with hold_publishing(lake, owner):
        spend = read_spend(lake.journal_folder(settings.journal), lake.lake_id)
        build_inspection(lake, spend, list(stale_tables(lake)))
        lake.write_bytes(lake.report, build_report(lake).html)
