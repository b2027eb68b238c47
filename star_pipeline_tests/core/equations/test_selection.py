"""Eq. 1: best, ties, fallbacks; what memory keeps; the final rows."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from star_pipeline.core.equations.selection import Contender, memory_entries, select_in_seed
from star_pipeline.core.publishing.rows import KeepRules, kept_rows, star_rows
from star_pipeline.core.records import Candidate, CatalogEntry, CompositeScore, IfdScore, Message, Seed


def contender(name, slot=1, pair="a+b", status="ok", gap=0.1, pi=0.1):
    return Contender(name, slot, pair, status, gap, None, None, pi)


def chosen(contenders):
    return [(c.candidate_id, selection) for c, _, selection in select_in_seed(contenders) if selection]


def test_the_highest_pi_wins():
    assert chosen([contender("x", 0, pi=0.2), contender("y", pi=0.3)]) == [("y", "best")]


def test_ties_go_to_the_larger_gap_then_to_the_smaller_candidate_id():
    assert chosen([contender("x", 0, gap=0.1), contender("y", gap=0.2)]) == [("y", "best")]
    assert chosen([contender("z", 0), contender("y")]) == [("y", "best")]


def test_without_a_positive_pi_the_reference_is_taken():
    assert chosen([contender("x", 0, pi=0.0), contender("y", pi=None), contender("z", pi=0.0, gap=9)]) == [
        ("x", "fallback_base")
    ]


def test_where_the_reference_failed_too_the_seed_is_taken_or_slot_0_stands_for_it():
    failed = contender("x", 0, status="failed", gap=None, pi=None)
    own = contender("y", 1, pair="seed", pi=0.0)
    assert chosen([failed, own]) == [("y", "fallback_seed")]
    assert chosen([failed, contender("z", 1, status="failed", gap=None, pi=None)]) == [("x", "fallback_seed")]


CONTENDERS = st.lists(
    st.tuples(st.sampled_from([None, 0.0, 0.25, 0.5]), st.sampled_from([-0.1, 0.1, 0.2]), st.booleans()),
    min_size=1,
    max_size=8,
)


@given(CONTENDERS)
def test_exactly_one_is_selected_and_a_best_has_the_greatest_positive_pi(specs):
    contenders = [
        contender(f"c{slot}", slot, status="ok" if good else "failed", gap=gap, pi=pi if good else None)
        for slot, (pi, gap, good) in enumerate(specs)
    ]
    picked = [(c, rank, selection) for c, rank, selection in select_in_seed(contenders) if selection]
    assert len(picked) == 1
    winner, rank, selection = picked[0]
    positive = [c for c in contenders if c.pi]
    assert (selection == "best") == bool(positive)
    if positive:
        assert rank == 1
        assert all((winner.pi, winner.gap) >= (c.pi, c.gap) for c in positive)


SEED = Seed("s", "f.json", 3, "be kind", (Message("user", "hi"), Message("assistant", "hello")), "ask", "own answer")
CANDIDATE = Candidate("c", "s", 1, "a+b", "ask more", "better answer", "ok", None, None, 1, 1, 1, 0.0, 0.0)
SCORE = CompositeScore("c", "s", 1, "a+b", 0.2, 0.5, 1.0, 0.5, 1, True, "best")
ENTRY = CatalogEntry("s", "000001-f", 0, "renamed.json", 7, True)
IFD = IfdScore("c", "s", "ok", False, ifd_small=0.9, ifd_large=0.7, gap=0.2)


def test_a_row_holds_the_whole_conversation_and_the_place_it_comes_from_now():
    [row] = star_rows("000001-f", [SEED], {"s": ENTRY}, [CANDIDATE], [SCORE], [IFD])
    assert [(m.role, m.content) for m in row.messages] == [
        ("system", "be kind"),
        ("user", "hi"),
        ("assistant", "hello"),
        ("user", "ask more"),
        ("assistant", "better answer"),
    ]
    assert (row.source, row.source_row, row.pair_id, row.ifd_small, row.pi) == ("renamed.json", 7, "a+b", 0.9, 0.5)


def test_a_fallback_to_the_seed_has_the_seeds_own_text_whatever_row_stands_for_it():
    failed = replace(CANDIDATE, status="failed", instruction=None, response=None)
    score = replace(SCORE, selection="fallback_seed", pi=None, pi_dual=None, pi_llm=None, rank=None)
    [row] = star_rows("k", [SEED], {"s": ENTRY}, [failed], [score], [replace(IFD, status="no_candidate")])
    assert (row.instruction, row.response, row.pair_id) == ("ask", "own answer", "seed")


def test_seeds_that_are_gone_have_no_row():
    assert star_rows("k", [SEED], {"s": replace(ENTRY, live=False)}, [CANDIDATE], [SCORE], [IFD]) == []


def test_memory_keeps_best_rows_of_enough_pi_only():
    scores = [
        SCORE,
        replace(SCORE, candidate_id="d", pi=0.1),
        replace(SCORE, candidate_id="e", selection="fallback_base"),
        replace(SCORE, candidate_id="f", selection=None, selected=False),
    ]
    candidates = [replace(CANDIDATE, candidate_id=name) for name in "cdef"]
    assert [entry.candidate_id for entry in memory_entries("k", 4, scores, candidates, 0.2)] == ["c"]
    [entry, _] = memory_entries("k", 4, scores, candidates, 0.0)
    assert (entry.instruction, entry.sequence, entry.pair_id) == ("ask more", 4, "a+b")


def star_row(name, pi=0.5, gap=0.1, selection="best"):
    [row] = star_rows("000001-f", [SEED], {"s": ENTRY}, [CANDIDATE], [SCORE], [IFD])
    return replace(row, seed_id=name, pi=pi, gap=gap, selection=selection)


def names(rows):
    return [row.seed_id for row in rows]


def test_by_default_every_row_is_kept():
    rows = [star_row("a"), star_row("b", None, None, "fallback_base")]
    assert kept_rows(rows, KeepRules(), {}) == (rows, [])


def test_each_rule_tells_why_and_works_on_what_the_one_before_left():
    rows = [
        star_row("low", 0.1),
        star_row("base", None, None, "fallback_base"),
        star_row("best", 0.9),
        star_row("twin", 0.8),
        star_row("mean", 0.5),
        star_row("less", 0.4),
    ]
    kept, out = kept_rows(rows, KeepRules("drop", 0.2, 1, 0.5), {"twin": "best", "best": "best", "mean": "mean"})
    assert names(kept) == ["best", "mean"]
    assert {row.seed_id: row.reason for row in out} == {
        "low": "min_pi", "base": "fallback", "twin": "near_duplicate", "less": "top_share",
    }  # fmt: skip  # read as a table
    said = {row.seed_id: row.detail for row in out}
    assert said["low"] == "its pi is 0.1, and dataset.min_pi is 0.2"
    assert said["base"] == "fallback_base, and dataset.fallbacks is drop"
    assert said["less"] == "place 3 by pi of 3 rows, and dataset.top_share 0.5 keeps 2"


def test_without_pi_a_row_has_less_than_any_positive_least_and_ranks_last():
    rows = [star_row("a", None, None, "fallback_seed"), star_row("b", 0.0, -1.0, "fallback_base"), star_row("c", 0.1)]
    assert names(kept_rows(rows, KeepRules(min_pi=0.05), {})[0]) == ["c"]
    assert names(kept_rows(rows, KeepRules(top_share=0.5), {})[0]) == ["b", "c"]


STAR_ROWS = st.lists(
    st.tuples(
        st.sampled_from([None, 0.0, 0.25, 0.5, 1.0]),
        st.sampled_from([None, -0.1, 0.1]),
        st.sampled_from(["best", "fallback_base"]),
        st.integers(0, 3),
    ),
    max_size=12,
)
RULES = st.builds(
    KeepRules,
    st.sampled_from(["keep", "drop"]),
    st.sampled_from([0.0, 0.25, 0.6]),
    st.sampled_from([None, 1, 2]),
    st.sampled_from([0.01, 0.1, 0.3, 0.5, 0.7, 1.0]),
)


@given(STAR_ROWS, RULES)
def test_what_is_kept_and_left_out_is_all_there_was_and_follows_the_rules(drawn, rules):
    rows = [star_row(f"s{n}", pi, gap, selection) for n, (pi, gap, selection, _) in enumerate(drawn)]
    group_of = {f"s{n}": f"s{group}" for n, (_, _, _, group) in enumerate(drawn)}
    kept, out = kept_rows(rows, rules, group_of)
    assert sorted(names(kept) + [row.seed_id for row in out]) == sorted(names(rows))
    assert [row for row in rows if row in kept] == kept

    # the same, in the rules' own words
    def rank(row):
        return -(row.pi or 0), float("inf") if row.gap is None else -row.gap, row.seed_id

    left = [row for row in sorted(rows, key=rank) if rules.fallbacks == "keep" or row.selection == "best"]
    left = [row for row in left if (row.pi or 0) >= rules.min_pi]
    if rules.near_duplicates:
        left = [
            row
            for place, row in enumerate(left)
            if sum(group_of[other.seed_id] == group_of[row.seed_id] for other in left[:place]) < rules.near_duplicates
        ]
    hundredths = round(rules.top_share * 100) * len(left)
    assert set(names(kept)) == set(names(left[: -(-hundredths // 100)]))


@given(
    st.lists(st.tuples(st.sampled_from([None, 0.0, 0.25, 0.5, 1.0]), st.integers(0, 3)), max_size=16),
    st.integers(1, 18),
)
def test_exactly_so_many_rows_are_kept_the_best_of_each_domain_in_proportion(drawn, wanted):
    rows = [star_row(f"s{n:02}", pi) for n, (pi, _) in enumerate(drawn)]
    domain_of = {f"s{n:02}": domain for n, (_, domain) in enumerate(drawn)}
    kept, out = kept_rows(rows, KeepRules(rows=wanted), {}, {}, domain_of)
    assert len(kept) == min(wanted, len(rows))
    assert {row.reason for row in out} <= {"rows"}
    for domain in set(domain_of.values()):
        inside = [row for row in rows if domain_of[row.seed_id] == domain]
        here = [row for row in kept if domain_of[row.seed_id] == domain]
        assert abs(len(here) - min(len(inside), len(inside) * wanted / len(rows))) < 1
        best = sorted(inside, key=lambda row: (-(row.pi or 0), row.seed_id))
        assert set(names(here)) == set(names(best[: len(here)]))
