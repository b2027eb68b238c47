"""Nearest neighbours and groups, against a plain loop over all pairs."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from star_pipeline.core.publishing.near_duplicates import near_duplicates


def plain(vectors, order, context, least):
    """The rule in its own words, one row after the other, in float64."""
    cosines = vectors.astype(np.float64) @ vectors.T.astype(np.float64)
    leader: dict[int, int] = {}
    for row in order:
        leaders = [other for other in leader if leader[other] == other and context[other] == context[row]]
        near = [other for other in leaders if cosines[row, other] >= least]
        leader[row] = max(near, key=lambda other: cosines[row, other]) if near else row
    np.fill_diagonal(cosines, -np.inf)
    return cosines, [leader[row] for row in range(len(vectors))]


def unit(rows, size, seed, groups):
    numbers = np.random.default_rng(seed)
    centres = numbers.normal(size=(groups, size))
    vectors = centres[numbers.integers(0, groups, rows)] + 0.15 * numbers.normal(size=(rows, size))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@given(st.integers(1, 60), st.integers(0, 10_000), st.integers(1, 3), st.integers(1, 20), st.integers(1, 20))
def test_tiles_of_any_size_find_what_a_loop_over_all_pairs_finds(rows, seed, contexts, high, wide):
    vectors = unit(rows, 8, seed, 6)
    numbers = np.random.default_rng(seed + 1)
    order, context = list(map(int, numbers.permutation(rows))), list(map(int, numbers.integers(0, contexts, rows)))
    found = near_duplicates(vectors, order, context, 0.97, (high, wide))
    cosines, leader = plain(vectors, order, context, 0.97)
    assert list(found.leader) == leader
    if rows == 1:
        assert (found.nearest[0], found.similarity[0]) == (-1, -1)
        return
    # two may be as near to the last bit, which the order of summing decides
    np.testing.assert_allclose(cosines[np.arange(rows), found.nearest], cosines.max(axis=1), atol=1e-6)
    np.testing.assert_allclose(found.similarity, cosines.max(axis=1), atol=1e-6)


def test_the_best_of_equal_rows_leads_them_and_another_context_keeps_to_itself():
    vectors = np.tile(np.float32([[1, 0]]), (6, 1))
    found = near_duplicates(vectors, [3, 5, 0, 1, 2, 4], [0, 0, 0, 0, 1, 1], 0.95, (2, 3))
    assert list(found.leader) == [3, 3, 3, 3, 5, 5]
    assert all(found.nearest != np.arange(6))


def test_no_rows_are_no_groups():
    found = near_duplicates(np.zeros((0, 4), np.float32), [], [], 0.9)
    assert (len(found.nearest), len(found.similarity), len(found.leader)) == (0, 0, 0)


@given(st.integers(2, 40), st.integers(0, 1000))
def test_equal_rows_are_near_duplicates_at_a_cosine_of_one(rows, seed):
    vectors = np.repeat(unit(1, 384, seed, 1), rows, axis=0)
    found = near_duplicates(vectors, range(rows), [0] * rows, 1.0, (7, 5))
    assert set(found.leader) == {0}
