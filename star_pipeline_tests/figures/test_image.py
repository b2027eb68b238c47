"""The plots as Dagster's UI shows them: real pictures, drawn by Vega, whose texts are read. Their look was judged by eye."""

import base64
import itertools
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from star_pipeline.figures import asset_figures
from star_pipeline.figures.base import _COLOURS, whole_ticks
from star_pipeline.figures.image import as_markdown, coverage
from star_pipeline.figures.judge import _VERDICTS
from star_pipeline_tests.figures.test_asset_figures import score, snapshot, verdict

LONG = [f"instruction-agent-number-{n // 6}+a-response-agent-called-{n % 6}" for n in range(30)]
_PICTURE = re.compile(r"!\[.*\]\(data:image/svg\+xml;base64,([\w+/=]+)\)")


def drawn(figure, covers="shard 1 of 1, 1 seed"):
    """The picture in the Markdown, as XML."""
    return ElementTree.fromstring(base64.b64decode(_PICTURE.match(as_markdown(figure, covers))[1]))


def texts(picture):
    return ["".join(element.itertext()) for element in picture.iter("{http://www.w3.org/2000/svg}text")]


@pytest.mark.parametrize(
    ("places", "said"),
    [
        ([5], "shard 5 of 12, 161 seeds"),
        ([3, 4, 5, 6], "shards 3 to 6 of 12, 161 seeds"),
        ([1, 2, 9], "3 of 12 shards, from 1 to 9, 161 seeds"),
        ([], "none of 12 shards"),
    ],
)
def test_a_plot_says_which_shards_it_covers(places, said):
    covers = coverage(places, 12, 161)
    assert covers == said
    assert said in texts(drawn(asset_figures.ifd([score("1", 0.5, 0.4)]), covers))


def test_numbers_of_shards_are_whole_with_one_shard_and_with_two_hundred():
    one = texts(drawn(asset_figures.probabilities({1: snapshot(1, a=0.6, b=0.4)})))
    assert [text for text in one if re.fullmatch(r"[\d.]+", text)] == ["0", "1"]
    many = texts(drawn(asset_figures.probabilities({place: snapshot(place, a=0.6, b=0.4) for place in range(21, 221)})))
    assert [text for text in many if re.fullmatch(r"[\d.]+", text)] == ["50", "100", "150", "200"]


def test_thirty_pairs_with_long_names_stand_whole_in_their_order():
    pair_of = {str(number): pair for number, pair in enumerate(LONG)}
    scores = [score(str(number), 0.9, 0.9 - number / 100) for number in range(30)]
    said = texts(drawn(asset_figures.gaps(scores, pair_of)))
    assert [text for text in said if "+" in text] == LONG[::-1]
    said = texts(drawn(asset_figures.verdicts([verdict(number, "better") for number in range(30)], pair_of)))
    assert [text for text in said if "+" in text] == sorted(LONG)
    assert sum(text == "0 of 1 reversed (0% to 79%)" for text in said) == 30
    # a line each; those that cannot be told apart are said to be grey
    shares = {pair: (30 - number) / 465 for number, pair in enumerate(LONG)}
    said = texts(drawn(asset_figures.probabilities({1: snapshot(1, **shares), 2: snapshot(2, **shares)})))
    assert [text for text in said if "+" in text] == LONG[:14]
    assert "pair (the first 14 of 30, the others are grey)" in said


def test_nothing_to_draw_is_a_sentence():
    for figure in (
        asset_figures.probabilities({}),
        asset_figures.ifd([]),
        asset_figures.gaps([], {}),
        asset_figures.verdicts([], {}),
        asset_figures.cost_by_pair([]),
        asset_figures.cost_by_agent([]),
        asset_figures.domains({}, []),
    ):
        said = as_markdown(figure, coverage([], 0, 0))
        assert said.startswith(f"**{figure.title}** (none of 0 shards)\n\n")
        assert "![" not in said


def test_words_of_seeds_become_neither_markdown_nor_markup():
    name = "![x](http://example.com/a.png) <img src=y> *b*"
    figure = asset_figures.domains({0: name}, [(0, "best")])
    said = as_markdown(figure, "all")
    assert f"0: {name}" in texts(drawn(figure))
    assert re.findall(r"(?<!\\)[\[\]<>*]", said) == ["[", "]"]  # of the picture itself


@given(low=st.integers(0, 10**6), span=st.integers(1, 10**7))
def test_ticks_are_whole_few_and_evenly_spaced(low, span):
    ticks = whole_ticks(low, low + span)
    assert 1 <= len(ticks) <= 8
    assert len({after - before for before, after in itertools.pairwise(ticks)}) <= 1
    assert low <= ticks[0] <= ticks[-1] <= low + span
    assert low or ticks[0] == 0


# how the colour-blind see linear RGB, after Machado, Oliveira and Fernandes (2009)
_SEEN = {
    "all colours": np.eye(3),
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}


def _lab(colour, seen):
    """The colour (#rrggbb) in CIELAB, as somebody sees it."""
    srgb = np.array([int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)])
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]] @ np.clip(seen @ linear, 0, 1)
    x, y, z = np.cbrt(xyz / [0.9505, 1, 1.089])
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("seen", _SEEN.values(), ids=_SEEN)
@pytest.mark.parametrize(
    ("colours", "least"), [(_COLOURS, 12), (tuple(_VERDICTS.values()), 12)], ids=["pairs", "verdicts"]
)
def test_the_colour_blind_tell_the_colours_apart(colours, least, seen):
    found = [_lab(colour, np.array(seen)) for colour in colours]
    assert min(np.linalg.norm(a - b) for a, b in itertools.combinations(found, 2)) > least
