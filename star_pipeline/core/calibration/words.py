"""A calibration in words: a page, a line for a run's beginning, a verdict by subject."""

from collections.abc import Mapping, Sequence

from star_pipeline.core.calibration.findings import IN_WORDS, CalibrationFinding, worst
from star_pipeline.core.intervals import Judgement
from star_pipeline.core.markdown import inline, table


def verdicts(found: Sequence[CalibrationFinding]) -> Mapping[str, Judgement]:
    """subject -> the worst verdict in it, in the findings' order; a subject whose figures decide nothing is left out."""
    subjects = dict.fromkeys(row.subject for row in found if row.verdict)
    return {subject: worst(row.verdict for row in found if row.subject == subject) for subject in subjects}


def verdict(found: Sequence[CalibrationFinding]) -> Judgement:
    """The worst of all."""
    return worst(row.verdict for row in found)


def interval(row: CalibrationFinding) -> str:
    """``0.52 (0.40 to 0.63)``, as figures are shown."""
    if row.figure is None or row.low is None or row.high is None:
        return "–"
    return f"{row.figure:.3g} ({row.low:.3g} to {row.high:.3g})"


def told(found: Sequence[CalibrationFinding], command: str) -> list[str]:
    """What a run says of its configuration before it begins: nothing where it was found fit; else a line each, with the remedy.

    ``command`` is what calibrates this configuration.
    """
    if not found:
        return [f"calibration: never done for this configuration; before you pay: {command}"]
    when = found[0].measured_at[:10]
    unfit: dict[tuple[str, str], list[CalibrationFinding]] = {}
    for row in found:
        if row.verdict == "unfit":
            unfit.setdefault((row.subject, row.name), []).append(row)
    lines = []
    for (subject, name), rows in unfit.items():
        figures = ", ".join(f"{row.measure} {interval(row)}" for row in rows)
        lines.append(f"calibration of {when}: {subject}, {name}: unfit ({figures}): {rows[0].remedy}")
    doubtful = [f"{row.name} ({row.measure})" for row in found if row.verdict == "doubtful"]
    if doubtful and not unfit:
        lines.append(
            f"calibration of {when}: doubtful: {', '.join(doubtful)}; calibration/README.md in the lake says more"
        )
    return lines


def page(found: Sequence[CalibrationFinding]) -> str:
    """The page ``calibration/README.md``."""
    first = found[0]
    lines = [f"# Calibration of {inline(first.config_name)}", ""]
    lines += [
        f"On {first.seeds:,} seeds, {first.measured_at}, settings `{first.fingerprint}`: **{IN_WORDS[verdict(found)]}**.",
        "",
    ]
    lines += [f"- {subject}: **{IN_WORDS[what]}**" for subject, what in verdicts(found).items()]
    lines += [
        "",
        "Each figure with its 95% interval, from *n* independent things. What it was measured on is in the Parquet files beside.",
        "",
    ]
    head = ("subject", "name", "measure", "figure", "n", "verdict", "meaning", "remedy")
    rows = [
        (
            row.subject,
            inline(row.name),
            inline(row.measure),
            interval(row),
            f"{row.n:,}",
            IN_WORDS[row.verdict] if row.verdict else "told",
            inline(row.meaning),
            inline(row.remedy or ""),
        )
        for row in found
    ]
    return "\n".join(lines) + "\n" + table(head, rows)
