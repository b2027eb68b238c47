"""What the figures are computed from: a row a planned candidate, with what each stage said of it, as columns."""

from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from star_pipeline.core.aliases import Values

Mask = NDArray[np.bool_]
Codes = NDArray[np.int64]


class Rows:
    """Columns of a table with a row a planned candidate, in the order of their seeds.

    seed_id, pair_id, instruction_agent, response_agent, origin (``sampling_plan``); status, error_kind, rewritten (there is an
    instruction), characters (``candidates``); scored (``ifd_scores.status``), tokens (``n_tokens_small``), gap; verdict, verdict_first,
    verdict_swapped, reference_characters, p_better of log-probabilities (``judge_verdicts`` and what it compared with); pi, selected.
    Null where a stage has no row.
    """

    def __init__(self, table: pa.Table) -> None:
        self._table = table

    @cached_property
    def seeds(self) -> Codes:
        """A number for each row's seed."""
        return self.codes("seed_id")[0]

    def codes(self, name: str) -> tuple[Codes, list[str]]:
        """A text column as numbers (-1: null), and the texts that they stand for."""
        column = pc.dictionary_encode(self._table.column(name)).combine_chunks()
        encoded = column.chunk(0) if isinstance(column, pa.ChunkedArray) else column
        numbers = pc.fill_null(encoded.indices.cast(pa.int64()), -1).to_numpy(zero_copy_only=False)
        return numbers, encoded.dictionary.to_pylist()

    def among(self, name: str, *values: str) -> Mask:
        """Where a text column has one of the values."""
        found = pc.is_in(self._table.column(name), value_set=pa.array(values, pa.string()))
        return np.asarray(found.to_numpy(zero_copy_only=False) if isinstance(found, pa.Array) else found.to_numpy())

    def true(self, name: str) -> Mask:
        """Where a column of truth values is true."""
        return np.asarray(pc.fill_null(self._table.column(name), False).to_numpy())

    def known(self, name: str) -> Mask:
        """Where a column is not null."""
        return np.asarray(pc.is_valid(self._table.column(name)).to_numpy())

    def numbers(self, name: str) -> Values:
        """A column of numbers; nan: null."""
        return np.asarray(self._table.column(name).cast(pa.float64()).to_numpy(), dtype=np.float64)
