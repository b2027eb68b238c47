"""Tables between assets: written as Parquet in the lake, schema checked, atomically; read back as frozen records."""

from typing import Any

import dagster as dg
import pyarrow as pa

from star_pipeline.adapters.consistency import write_with_origin
from star_pipeline.core.errors import LakeError
from star_pipeline.core.tables import TABLES
from star_pipeline.defs.resources import LakeResource


class LakeTables(dg.ConfigurableIOManager):
    """An asset's output is an Arrow table; its consumers get the list of that table's records."""

    lake: LakeResource

    def handle_output(self, context: dg.OutputContext, obj: pa.Table) -> None:
        shard = context.partition_key if context.has_partition_key else None
        try:
            path = write_with_origin(self.lake.open(), TABLES[context.asset_key.path[-1]], obj, shard)
        except LakeError as error:
            raise dg.Failure(str(error), allow_retries=False) from error
        context.add_output_metadata({"path": dg.MetadataValue.path(str(path))})

    def load_input(self, context: dg.InputContext) -> list[Any]:  # records of the table that is asked for
        shard = context.partition_key if context.has_partition_key else None
        try:
            return self.lake.open().read_table(TABLES[context.asset_key.path[-1]], shard)
        except LakeError as error:
            raise dg.Failure(str(error), allow_retries=False) from error
