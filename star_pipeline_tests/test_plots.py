"""The plots of the UI: what they draw is what the rows say. Their look was judged by eye."""

import base64
from typing import Any

import matplotlib.figure
import pytest

from star_pipeline.core.records import AgentSpend, IfdScore
from star_pipeline.core.tables import IFD_SCORES
from star_pipeline.plots import agent_cost_plot, gap_plot


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The axes of every figure that was saved."""
    found: list[Any] = []
    save = matplotlib.figure.Figure.savefig

    def remember(figure: Any, *args: Any, **kwargs: Any) -> None:
        found.extend(figure.axes)
        save(figure, *args, **kwargs)

    monkeypatch.setattr(matplotlib.figure.Figure, "savefig", remember)
    return found


def score(candidate_id: str, gap: float | None) -> IfdScore:
    fields = dict.fromkeys(column.name for column in IFD_SCORES.columns)
    return IfdScore(**{**fields, "candidate_id": candidate_id, "gap": gap})


def spend(agent: str, stage: str, tokens: int, usd: float) -> AgentSpend:
    return AgentSpend(agent, stage, 1, tokens, 0, usd, 0, 0.0)


def test_gaps_are_boxed_by_pair_with_the_best_median_on_top(drawn: list[Any]) -> None:
    scores = [score("1", 0.1), score("2", 0.3), score("3", -0.2), score("4", None)]

    image = gap_plot(scores, {"1": "keep+a", "2": "keep+a", "3": "b+a", "4": "b+a"})

    assert base64.b64decode(image.value.split("base64,")[1].removesuffix(")")).startswith(b"\x89PNG")
    (axes,) = drawn
    assert [label.get_text() for label in axes.get_yticklabels()] == ["b+a  (1)", "keep+a  (2)"]
    medians = [set(line.get_xdata()) for line in axes.lines if len(set(line.get_xdata())) == 1]
    assert {-0.2} in medians
    assert any(pytest.approx(0.2) == value for line in medians for value in line)


@pytest.mark.parametrize(
    ("usd", "title", "widths"), [(0.5, "Cost by agent, USD", {0.5, 1.0}), (0.0, "Cost by agent, tokens", {30, 10})]
)
def test_an_agents_cost_is_in_tokens_where_nothing_has_a_price(
    drawn: list[Any], usd: float, title: str, widths: set[float]
) -> None:
    agent_cost_plot([spend("a", "respond", 30, usd), spend("b", "judge", 10, 2 * usd)])

    (axes,) = drawn
    assert axes.get_title() == title
    assert {bar.get_width() for bar in axes.patches if bar.get_width()} == widths


def test_nothing_to_draw_is_no_error(drawn: list[Any]) -> None:
    gap_plot([], {})
    agent_cost_plot([])

    assert len(drawn) == 2
