"""Lines of an estimate: an agent's stage with its price, and what a study comes to."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from star_pipeline.adapters.llm.prices import Price
from star_pipeline.core.planning.cost_estimate import AgentEstimate
from star_pipeline.core.planning.dry_run import CallTotals
from star_pipeline.core.planning.study_estimate import StudyEstimate


def priced(agent: str, stage: str, line: CallTotals, known: Price | None) -> AgentEstimate:
    most = None
    if known and (line.most_completion is not None or not known.completion):
        most = line.most_prompt * known.prompt + (line.most_completion or 0.0) * known.completion
    return AgentEstimate(
        agent,
        stage,
        round(line.calls),
        round(line.known),
        round(line.prompt_tokens),
        round(line.completion_tokens),
        line.prompt_tokens * known.prompt + line.completion_tokens * known.completion if known else None,
        most,
    )


def print_study(console: Console, study: StudyEstimate) -> None:
    answers = "an unknown number of" if study.answers is None else f"{study.answers:,}"
    flops = ", ".join(
        f"{name} {value:.3g} FLOPs" if isinstance(value, float) else f"{name} unknown ({value})"
        for name, value in study.flops.items()
    )
    console.print(
        f"then the study, beside that: {study.trainings:,} trainings of up to {study.rows:,} rows, {study.tokens:,} tokens trained; "
        f"{flops}; {answers} answers to generate",
        markup=False,
        soft_wrap=True,
    )
    if study.problem:
        console.print(f"what its judges cost is unknown: {study.problem}", markup=False, soft_wrap=True)
    elif study.agents:
        console.print(agents_table(study.agents, study.usd, study.most_usd))


def agents_table(agents: Sequence[AgentEstimate], usd: float | None, most_usd: float | None) -> Table:
    table = Table(box=None, padding=(0, 2), pad_edge=False)
    for title in ("agent", "stage", "calls", "in journal", "tokens sent", "tokens received", "USD", "USD at most"):
        table.add_column(title, justify="left" if title in ("agent", "stage") else "right")
    for line in agents:
        counts = (f"{n:,}" for n in (line.calls, line.in_journal, line.prompt_tokens, line.completion_tokens))
        table.add_row(line.agent, line.stage, *counts, _usd(line.usd), _usd(line.most_usd))
    names = ("calls", "in_journal", "prompt_tokens", "completion_tokens")
    sums = (f"{sum(getattr(line, name) for line in agents):,}" for name in names)
    table.add_row("all", "", *sums, _usd(usd), _usd(most_usd), style="bold")
    return table


def _usd(value: float | None) -> str:
    return "unknown" if value is None else f"{value:,.4f}"
