"""Shards are append-only: what new, edited, removed, moved and returned records do."""

from hypothesis import given
from hypothesis import strategies as st

from star_pipeline.core.intake.catalog import ShardSizes, update_catalog
from star_pipeline.core.intake.seeds import SeedRules, make_seed, seeds_of

TWO = ShardSizes(2)


def seeds(text, source="file.json"):
    return [make_seed(source, row, None, (), letter, "r") for row, letter in enumerate(text, start=1)]


def shards(update):
    found = {}
    for entry in update.entries:
        found.setdefault(entry.shard, []).append(entry.live)
    return found


def test_new_records_fill_shards_in_order_and_duplicates_are_counted():
    update = update_catalog([], seeds("abcdae"), TWO)
    assert (update.records, update.duplicates, update.added, update.live) == (6, 1, 5, 5)
    assert update.new_shards == ("000001-file", "000002-file", "000003-file")
    assert [entry.position for entry in update.entries] == [0, 1, 0, 1, 0]
    assert update.entries[0].source_row == 1


def test_the_same_files_change_nothing():
    first = update_catalog([], seeds("abc"), TWO)
    again = update_catalog(first.entries, seeds("abc"), TWO)
    assert not again.changed
    assert again.entries == first.entries


def test_an_edited_record_is_a_new_one_in_a_new_shard_beside_a_tombstone():
    first = update_catalog([], seeds("abc"), TWO)
    update = update_catalog(first.entries, seeds("aXc"), TWO)
    assert (update.added, update.removed) == (1, 1)
    assert shards(update) == {"000001-file": [True, False], "000002-file": [True], "000003-file": [True]}
    assert update.new_shards == ("000003-file",)


def test_a_removed_record_that_comes_back_is_live_again_where_it_was():
    first = update_catalog([], seeds("abc"), TWO)
    gone = update_catalog(first.entries, seeds("ab"), TWO)
    assert gone.removed == 1
    back = update_catalog(gone.entries, seeds("abc"), TWO)
    assert (back.returned, back.added, back.new_shards) == (1, 0, ())
    assert back.entries == first.entries


def test_a_renamed_file_keeps_shards_and_updates_the_source():
    first = update_catalog([], seeds("ab", "old.json"), TWO)
    moved = update_catalog(first.entries, seeds("ab", "new.json"), TWO)
    assert (moved.added, moved.removed, moved.moved, moved.new_shards) == (0, 0, 2, ())
    assert {entry.source for entry in moved.entries} == {"new.json"}
    assert [entry.shard for entry in moved.entries] == [entry.shard for entry in first.entries]


@given(st.lists(st.text("abcdefgh", max_size=8), min_size=1, max_size=5), st.integers(1, 3))
def test_over_any_history_seeds_never_move_and_live_is_what_the_files_hold(history, size):
    entries = ()
    places = {}
    for text in history:
        filled = {}
        update = update_catalog(entries, seeds(text), ShardSizes(size), filled.__setitem__)
        entries = update.entries
        for entry in entries:
            assert places.setdefault(entry.seed_id, (entry.shard, entry.position)) == (entry.shard, entry.position)
        assert {entry.seed_id for entry in entries if entry.live} == {seed.seed_id for seed in seeds(text)}
        assert len({entry.seed_id for entry in entries}) == len(entries)
        assert tuple(filled) == update.new_shards
        assert all(1 <= len(members) <= size for members in filled.values())
        placed = {seed.seed_id: (key, place) for key, members in filled.items() for place, seed in enumerate(members)}
        assert all(places[name] == place for name, place in placed.items())


def test_other_turns_are_new_seeds_beside_the_last_ones_and_going_back_tombstones_them():
    turns = ("1?", "1", "2?", "2", "3?", "3")
    record = {"conversations": [{"from": ("human", "gpt")[n % 2], "value": text} for n, text in enumerate(turns)]}

    def look(previous, turns):
        return update_catalog(previous, seeds_of(iter([(1, record)]), "f.json", SeedRules(turns=turns)), TWO)

    last = look([], "last")
    every = look(last.entries, "every")
    assert (every.records, every.added, every.removed, every.live) == (3, 2, 0, 3)
    assert every.entries[: len(last.entries)] == last.entries
    assert every.new_shards == ("000002-f",)
    back = look(every.entries, "last")
    assert (back.added, back.removed, back.live) == (0, 2, 1)
    again = look(back.entries, "every")
    assert (again.added, again.returned, again.entries) == (0, 2, every.entries)


def test_first_shards_are_small_and_grow_once_something_can_have_been_learnt():
    sizes = ShardSizes(16, 3, lag=1)
    assert [sizes.of(number) for number in range(1, 9)] == [3, 3, 6, 6, 12, 12, 16, 16]
    assert sizes.of(10_000) == 16
    assert ShardSizes(2, 8).of(1) == 2

    first = update_catalog([], seeds("abcdefghi"), sizes)
    assert [len(found) for found in shards(first).values()] == [3, 3, 3]
    more = update_catalog(first.entries, seeds("abcdefghijklmnopqrstuvwxyz"), sizes)  # what is there stays as it is
    assert [len(found) for found in shards(more).values()] == [3, 3, 3, 6, 11]
    now_lag_0 = update_catalog(first.entries, seeds("abcdefghijklmnopqrstuvwxyz"), ShardSizes(16, 3, lag=0))
    assert [len(found) for found in shards(now_lag_0).values()] == [3, 3, 3, 16, 1]
