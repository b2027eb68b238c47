"""Asks the inspection file the report's questions: shipped queries as they are, and SQL files under ``sql/`` that fit them to a plot."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from typing import TYPE_CHECKING

from star_pipeline.adapters.lake import Lake
from star_pipeline.core.aliases import JsonObject
from star_pipeline.inspection.build import made_by_another_version
from star_pipeline.inspection.build import open_inspection as open_file

if TYPE_CHECKING:
    import duckdb

_SQL = resources.files("star_pipeline.report") / "sql"


class Inspection:
    """An open inspection file."""

    def __init__(self, database: "duckdb.DuckDBPyConnection") -> None:
        self._database = database

    def view(self, name: str) -> list[JsonObject]:
        """The rows of a shipped query, as dicts by column."""
        return self._rows(f"SELECT * FROM {name}")

    def rows(self, name: str) -> list[JsonObject]:
        """The rows of ``sql/NAME.sql``, as dicts by column."""
        return self._rows((_SQL / f"{name}.sql").read_text("utf-8"))

    def choose(self, samples: int) -> None:
        """Make the temporary table ``chosen`` of at most ``samples`` seed_ids, spread over the strata of ``sql/strata.sql``."""
        strata = (_SQL / "strata.sql").read_text("utf-8")
        self._database.execute(f"CREATE OR REPLACE TEMP TABLE chosen AS {strata}", {"samples": samples})

    def _rows(self, sql: str) -> list[JsonObject]:
        self._database.execute(sql)
        columns = [column for column, *_ in self._database.description or ()]
        return [dict(zip(columns, values, strict=True)) for values in self._database.fetchall()]


@contextmanager
def open_inspection(lake: Lake) -> Iterator[Inspection]:
    """The lake's inspection file, for reading. Raises LakeError, with the remedy, where it is not there or of another version."""
    import duckdb  # here, since DuckDB complains of leaks at exit when it is imported before the models

    try:
        with open_file(lake) as database:
            yield Inspection(database)
    except (duckdb.CatalogException, duckdb.BinderException) as error:
        raise made_by_another_version(lake) from error
