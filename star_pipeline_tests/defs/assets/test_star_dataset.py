"""Groups of near-duplicates that are not of these rows, or not of this similarity, are refused with the remedy."""

import pytest

from star_pipeline.adapters.lake import Lake
from star_pipeline.config import load_config
from star_pipeline.core.errors import LakeError
from star_pipeline.core.records import Message, StarRow, TaskDomain
from star_pipeline.core.tables import TASK_DOMAINS
from star_pipeline.defs.asset_factory import stamped
from star_pipeline.defs.assets.star_dataset import _leaders

TURNS = (Message("user", "i"), Message("assistant", "r"))
ROWS = [StarRow(n, TURNS, "i", "r", "a+b", *(0.5,) * 6, "k", "x.json", 1, f"c-{n}", "best") for n in "ab"]
DOMAINS = [TaskDomain(n, f"c-{n}", "k", 0, "word", None, None, "a") for n in "ab"]


def config(**dataset):
    return load_config("offline", {"dataset": dataset})


@pytest.fixture
def lake(tmp_path):
    made = Lake.at(tmp_path)
    made.write_table(TASK_DOMAINS, stamped(TASK_DOMAINS.to_arrow(DOMAINS), config(), TASK_DOMAINS))
    return made


def test_groups_of_these_rows_and_this_similarity_are_taken(lake):
    assert _leaders(lake, config(near_duplicates=1), ROWS, DOMAINS) == {"a": "a", "b": "a"}


def test_rows_that_the_table_does_not_have_matter_only_where_groups_are_asked_for(lake):
    assert _leaders(lake, config(), ROWS, DOMAINS[:1]) == {"a": "a"}
    with pytest.raises(
        LakeError, match=r"lacks 1 of 2 rows; materialise task_domains first, or run: star-pipeline run"
    ):
        _leaders(lake, config(near_duplicates=1), ROWS, DOMAINS[:1])


def test_groups_of_another_similarity_are_refused(lake):
    with pytest.raises(LakeError, match=r"its groups are of similarity 0\.95; materialise task_domains first"):
        _leaders(lake, config(near_duplicates=1, near_duplicate_similarity=0.9), ROWS, DOMAINS)
