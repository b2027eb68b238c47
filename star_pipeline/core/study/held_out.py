"""Held-out loss: how likely strong reference answers are under a tuned model, given their instructions."""

import math
from collections.abc import Sequence

from star_pipeline.core.ports import Scorer, ScoringSample
from star_pipeline.core.study.answers import Subject, asked
from star_pipeline.core.study.records import Question, StudyLoss


def held_out_losses(scorer: Scorer, questions: Sequence[Question], subject: Subject) -> list[StudyLoss]:
    """A row a question, in order: the mean loss, in nats, over the tokens of its reference answers, each given its instruction.

    Of several turns each that has a reference is scored, with the references to the turns before it as history. A question without one
    has the status ``no_reference``; where one of its references cannot be scored, the question has that status and no loss.
    """
    samples = [_samples(question) for question in questions]
    flat = [sample for some in samples for sample in some]
    fits = scorer.fit(flat)
    fitting = [(sample, fit.kept_chars) for sample, fit in zip(flat, fits, strict=True) if fit.status == "ok"]
    losses = iter(scorer.losses([sample for sample, _ in fitting], [kept for _, kept in fitting]))
    heard = iter([(fit.status, next(losses) if fit.status == "ok" else None) for fit in fits])
    rows = []
    for question, some in zip(questions, samples, strict=True):
        own = [next(heard) for _ in some]
        told = [loss for _, loss in own if loss is not None]
        status = next((status for status, _ in own if status != "ok"), "ok" if own else "no_reference")
        tokens = sum(loss.n_tokens for loss in told)
        nll = math.fsum(loss.nll_given * loss.n_tokens for loss in told) / tokens if tokens else math.nan
        if status == "ok" and not math.isfinite(nll):
            status = "not_finite"
        known = status == "ok"
        rows.append(
            StudyLoss(
                subject.target, subject.arm, subject.seed, question.question, question.source, question.category,
                nll if known else None, tokens if known else None, status,
            )
        )  # fmt: skip  # a column's value each
    return rows


def _samples(question: Question) -> list[ScoringSample]:
    said: list[str] = []
    samples = []
    for reference in question.references:
        if reference is None:
            break  # the turns after it would follow an answer that nobody has
        samples.append(asked(question, said, reference))
        said.append(reference)
    return samples
