"""Probes: plainly worse, made of the seeds alone, and the same each time."""

import re

from hypothesis import given
from hypothesis import strategies as st

from star_pipeline.core.calibration.probes import (
    OTHER,
    TRUE,
    comparisons,
    numbers_changed,
    probes_of,
    scoring_rows,
    shuffled,
    truncated,
)
from star_pipeline.core.equations.judging import references
from star_pipeline.core.intake.seeds import make_seed

SENTENCE = st.from_regex(r"[A-Z][a-z]{2,9} [a-z]{2,9} [a-z]{2,9}\.", fullmatch=True)
TEXTS = st.text(max_size=200)


def seeds(*responses):
    return [make_seed("s.json", n + 1, None, (), f"Question {n}?", text) for n, text in enumerate(responses)]


@given(TEXTS)
def test_a_cut_text_is_a_part_from_its_beginning_and_plainly_shorter(text):
    cut = truncated(text)
    assert (cut is None) == (len(text.strip()) < 24)
    if cut is not None:
        assert cut
        assert text.strip().startswith(cut)
        assert len(cut) <= len(text.strip()) / 2


@given(st.lists(SENTENCE, min_size=3, max_size=8, unique=True))
def test_shuffled_sentences_are_the_same_in_another_order(sentences):
    text = " ".join(sentences)
    mixed = shuffled(text)
    assert mixed != text
    assert sorted(re.split(r"(?<=\.) ", mixed)) == sorted(sentences)
    assert shuffled(text) == mixed
    assert shuffled(" ".join(sentences[:2])) is None


@given(st.text(alphabet="ab 0123456789.,-\n", max_size=80))
def test_numbers_become_others_of_as_many_digits_and_nothing_else_changes(text):
    changed = numbers_changed(text)
    counters = {found.start(1) for found in re.finditer(r"^[ \t]*(\d+)[.)]", text, re.MULTILINE)}
    numbers = [found for found in re.finditer(r"\d+", text) if found.start() not in counters]
    assert (changed is None) == (not numbers)
    if changed is not None:
        assert re.sub(r"\d", "#", changed) == re.sub(r"\d", "#", text)
        for found in numbers:
            assert changed[found.start() : found.end()] != found[0]
            assert not (changed[found.start()] == "0" != found[0][0])
        assert all(changed[place] == text[place] for place in counters)


@given(st.lists(st.one_of(TEXTS, st.just("The same.")), max_size=6))
def test_every_probe_of_a_seed_differs_from_its_response_but_for_the_one_that_repeats_it(responses):
    given_seeds = seeds(*responses)
    made = probes_of(given_seeds)
    own = {seed.seed_id: seed.response for seed in given_seeds}
    assert all((probe.response == own[probe.seed_id]) == (probe.kind == "same") for probe in made)
    assert all(probe.response in responses for probe in made if probe.kind == "foreign")
    assert [probe.seed_id for probe in made if probe.kind == "same"] == [
        s.seed_id for s in given_seeds if s.response.strip()
    ]
    assert probes_of(given_seeds) == made
    rows, scores = comparisons(made, given_seeds)
    found = references(rows, given_seeds)
    assert [row.candidate_id for row in rows] == [score.candidate_id for score in scores]
    for probe in made:
        assert found[probe.seed_id].response == own[probe.seed_id]


def test_a_response_is_scored_with_its_own_instruction_and_two_others():
    rows = scoring_rows(seeds("One answer.", "Another answer.", "A third.", "", "A fourth."))
    assert [row.pair_id for row in rows] == [TRUE, OTHER, OTHER] * 4
    assert len({row.candidate_id for row in rows}) == len(rows)
    for row in rows:
        number = {"One answer.": 0, "Another answer.": 1, "A third.": 2, "A fourth.": 4}[row.response]
        assert (row.instruction == f"Question {number}?") == (row.pair_id == TRUE)
