"""What a data set is made of, in words."""

from hypothesis import given
from hypothesis import strategies as st

from star_pipeline.core.publishing.makeup import makeup, origin_of


def test_it_names_seeds_reference_and_pairs_with_their_shares():
    rows = [("seed", "seed", 79), ("reference", "keep+brief", 54), ("sampled", "a+b", 20), ("sampled", "b+a", 8)]
    assert makeup(rows) == ("79 unchanged seeds (49%), 54 of the reference keep+brief (34%), 28 of sampled pairs (17%)")
    assert makeup([("reference", "a+a", 1), ("reference", "b+b", 2), ("base", "c+c", 1)]) == (
        "3 of the reference (75%), 1 of other base pairs (25%)"
    )
    assert makeup([("seed", "seed", 1)]) == "1 unchanged seed (100%)"
    assert makeup([]) == ""


def test_the_origin_follows_from_the_base_pairs_of_the_configuration():
    base = ("keep+a", "keep+b")
    found = [origin_of(pair, {base[0]}, base) for pair in ("seed", "keep+a", "keep+b", "a+b")]
    assert found == ["seed", "reference", "base", "sampled"]
    assert origin_of("seed", {"seed"}, {"seed"}) == "seed"  # pairs.base: [seed]


@given(
    st.lists(
        st.tuples(st.sampled_from(["seed", "reference", "base", "sampled"]), st.just("p+q"), st.integers(1, 10**6))
    )
)
def test_every_row_is_counted_once(rows):
    told = makeup(rows)
    counts = [int(part.split(" ")[0].replace(",", "")) for part in told.split("), ") if part]
    assert sum(counts) == sum(count for _, _, count in rows)
