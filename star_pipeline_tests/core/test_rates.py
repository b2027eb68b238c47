"""Rates: counts before percentages, and the interval that the queries say as well."""

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from star_pipeline.core.rates import rate, wilson
from star_pipeline.inspection.shipped import statements


def test_a_percentage_is_said_of_twenty_or_more_only():
    assert [rate(1, 3), rate(0, 0), rate(7, 19), rate(5, 20), rate(1234, 5000)] == [
        "1 of 3",
        "0 of 0",
        "7 of 19",
        "5 of 20 (25%)",
        "1,234 of 5,000 (25%)",
    ]


@pytest.fixture(scope="module")
def database():
    with duckdb.connect() as opened:
        opened.execute(statements("macros"))
        yield opened


@given(of=st.integers(1, 10**6), share=st.floats(0, 1))
def test_the_interval_is_the_queries_own_and_holds_the_share(database, of, share):
    count = round(share * of)
    low, high = wilson(count, of)
    assert 0 <= low <= count / of <= high <= 1
    said = database.execute(f"SELECT wilson_low({count}, {of}), wilson_high({count}, {of})").fetchone()
    assert (low, high) == pytest.approx(said, abs=1e-9)
