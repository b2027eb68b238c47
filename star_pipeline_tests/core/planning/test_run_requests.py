"""What the watcher asks for, situation by situation."""

import pytest

from star_pipeline.core.planning.run_requests import Attempt, catalogue_wanted, shards_wanted

BUSY, DONE, STOPPED = Attempt("r1", "under way"), Attempt("r1", "done"), Attempt("r1", "stopped")
KILLED = Attempt("r1", "failed")
BAD = Attempt("r1", "failed", "SeedError", "a.json, row 3: no text")
REFUSED = Attempt("r1", "failed", "OrderError", "needs shard 1")
DOWN = Attempt("r1", "failed", "AgentDown", "agent a has not answered once")


@pytest.mark.parametrize(("taken_in", "last", "tries", "wanted", "said"), [
    (None, None, 0, True, ""),
    ("new", DONE, 1, False, "as the catalogue knows them"),
    ("old", None, 0, True, ""),
    ("old", BUSY, 1, False, "is being made"),
    ("old", DONE, 1, True, ""),  # made, but from files that changed while it read them
    ("old", BAD, 1, False, "waiting for the seed files to be mended (run r1: a.json, row 3: no text)"),
    ("old", KILLED, 1, True, ""),
    ("old", KILLED, 3, False, "failed 3 times"),
    ("old", STOPPED, 1, True, ""),
])  # fmt: skip  # read as a table
def test_the_catalogue_is_made_again_where_that_can_help(taken_in, last, tries, wanted, said):
    wish = catalogue_wanted("new", taken_in, last, tries)
    assert (bool(wish.keys), said in wish.reason) == (wanted, True), wish


@pytest.mark.parametrize(("last", "wanted", "said"), [
    ({}, "abcd", "0 shards under way, 6 to do"),
    ({"a": BUSY}, "bcd", "1 shards under way"),
    ({"a": BUSY, "b": BUSY, "c": BUSY, "d": BUSY}, "", "4 shards under way, 6 to do"),
    ({"a": REFUSED, "b": REFUSED}, "abcd", ""),
    ({"a": Attempt("r1", "failed", "LakeBusy", "in use"), "b": BUSY}, "acd", ""),
    ({"a": DOWN, "b": REFUSED}, "", "shard a failed and later shards wait for it (run r1: agent a has not answered once)"),
    ({"a": BUSY, "b": DOWN}, "", "shard b failed"),
    ({"a": STOPPED}, "", "shard a was stopped"),
    ({"a": DONE}, "abcd", ""),  # a run that made part of it
])  # fmt: skip  # read as a table
def test_shards_are_asked_for_in_order_and_a_failed_one_holds_the_rest_back(last, wanted, said):
    wish = shards_wanted("abcdef", last, window=4)
    assert ("".join(wish.keys), said in wish.reason) == (wanted, True), wish


def test_nothing_is_wanted_where_everything_is_done():
    assert shards_wanted([], {}, 4).reason == "every shard is done"
