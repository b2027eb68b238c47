"""The pairwise judge of a study: an arm's answers beside the baseline's, by the judge of Eq. 6, in both orders."""

from collections.abc import Iterable, Sequence

from star_pipeline.core import identity
from star_pipeline.core.equations.judging import Judge, JudgeRules
from star_pipeline.core.equations.prompts import PromptLibrary
from star_pipeline.core.ports import ChatModel, Progress
from star_pipeline.core.records import Candidate, IfdScore, JudgeVerdict, Seed, Verdict
from star_pipeline.core.study.answers import Answer, Subject, by_question, in_turns, whole
from star_pipeline.core.study.records import Question, StudyWin
from star_pipeline.core.study.wins import win_of


async def compared_answers(
    chat: ChatModel,
    prompts: PromptLibrary,
    rules: JudgeRules,
    questions: Sequence[Question],
    answers: Iterable[Answer],
    baseline_answers: Iterable[Answer],
    subject: Subject,
    baseline: str,
    progress: Progress,
) -> list[StudyWin]:
    """A row a question, in order. A question of several turns is one comparison, of the whole conversations.

    Nobody is asked where both said the same, which is a tie, or where one of the two has no answer, which is ``failed``.
    """
    own, other = by_question(answers), by_question(baseline_answers)
    pairs = {
        question.question: tuple(whole(question, side.get(question.question, ())) for side in (own, other))
        for question in questions
    }
    seeds, candidates, scores = [], [], []
    for question in questions:
        text, reference = pairs[question.question]
        if text is None or reference is None or text == reference:
            continue
        seed = _seed(question, subject)
        both = [_candidate(seed, slot, said) for slot, said in enumerate((reference, text))]
        seeds.append(seed)
        candidates += both
        # the judge asks about what has a gap; here all is asked about
        scores += [IfdScore(row.candidate_id, seed.seed_id, "ok", False, gap=1.0) for row in both]
    heard = {
        row.seed_id: row for row in await Judge(chat, prompts, rules).verdicts(candidates, seeds, scores, progress)
    }
    rows = []
    for question in questions:
        lengths = tuple(_length(side.get(question.question, ())) for side in (own, other))
        said = heard.get(_name(question, subject))
        rows.append(_win(question, pairs[question.question], lengths, said, subject, baseline))
    return rows


def _length(said: Sequence[Answer]) -> int:
    return sum(len(answer.text or "") for answer in said)


def _name(question: Question, subject: Subject) -> str:
    """Under which the judge's calls are booked."""
    return f"study/{subject}/{question.question}"


def _seed(question: Question, subject: Subject) -> Seed:
    asked = in_turns(question.turns)
    return Seed(_name(question, subject), "", 0, question.system, question.history, asked, "")


def _candidate(seed: Seed, slot: int, text: str) -> Candidate:
    """Slot 0 is what the judge compares with."""
    name = identity.digest("study", seed.seed_id, slot, length=20)
    return Candidate(name, seed.seed_id, slot, "", seed.instruction, text, "ok", None, None, 0, 0, 0, 0.0, 0.0)


def _win(
    question: Question,
    pair: tuple[str | None, ...],
    lengths: tuple[int, ...],
    heard: JudgeVerdict | None,
    subject: Subject,
    baseline: str,
) -> StudyWin:
    text, reference = pair
    verdict: Verdict = heard.verdict if heard else "tie" if None not in pair else "failed"
    missing = [name for name, said in ((subject.arm, text), (baseline, reference)) if said is None]
    error = heard.error if heard else f"no answer of {' and of '.join(missing)}" if missing else None
    return StudyWin(
        target=subject.target,
        arm=subject.arm,
        seed=subject.seed,
        question=question.question,
        baseline=baseline,
        source=question.source,
        category=question.category,
        verdict=verdict,
        verdict_first=heard.verdict_first if heard else None,
        verdict_swapped=heard.verdict_swapped if heard else None,
        win=win_of(verdict),
        length=lengths[0],
        length_baseline=lengths[1],
        reply_first=heard.reply_first if heard else None,
        reply_swapped=heard.reply_swapped if heard else None,
        error=error,
        judge_agent=heard.judge_agent if heard else None,
        attempts=heard.attempts if heard else 0,
        prompt_tokens=heard.prompt_tokens if heard else 0,
        completion_tokens=heard.completion_tokens if heard else 0,
        cost_usd=heard.cost_usd if heard else 0.0,
    )
