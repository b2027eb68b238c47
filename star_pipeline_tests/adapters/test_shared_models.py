"""Of a group of samples that is computed as if it were alone nothing is computed twice, whoever comes first: parts ahead, the whole
ahead, the step."""

import itertools
import threading

import pytest

from star_pipeline.adapters.fakes import HashScorer
from star_pipeline.adapters.once import Abandoned
from star_pipeline.adapters.shared_models import SharedModels
from star_pipeline.core.ports import ScoringSample
from star_pipeline_tests.commands.test_run import Notes

SAMPLES = [ScoringSample(None, (), f"Question {number}?", f"Answer {number}.") for number in range(6)]
KEPT = [len(sample.response) for sample in SAMPLES]
PARTS = {"part": (0, 3), "other part": (3, 5)}
ASKING = [*PARTS, "whole ahead", "step"]
GROUPS = [3, 0, 2, 1]


class Counting(HashScorer):
    """It keeps what it was asked: samples, and in which groups."""

    def __init__(self, asked, grouped):
        super().__init__("small")
        self.asked, self.grouped = asked, grouped

    def losses(self, samples, kept_chars, heard=None, groups=None):
        assert groups is None or sum(groups) == len(samples)
        self.asked += samples
        begins = itertools.accumulate(groups or [], initial=0)
        self.grouped += [
            tuple(samples[begin : begin + size]) for begin, size in zip(begins, groups or [], strict=False)
        ]
        return super().losses(samples, kept_chars, heard)


def ask(models, name, text_by_text, asked, grouped):
    begin, end = PARTS.get(name, (0, 6))
    scorer = models.scorer("small", lambda progress: Counting(asked, grouped), None, text_by_text, name in PARTS)
    return scorer.losses(SAMPLES[begin:end], KEPT[begin:end], None, [end - begin] if name in PARTS else GROUPS)


@pytest.mark.parametrize("text_by_text", [True, False], ids=["text by text", "in groups"])
@pytest.mark.parametrize("order", itertools.permutations(ASKING), ids="-".join)
def test_nothing_is_computed_twice_whoever_comes_first(order, text_by_text):
    models, asked, grouped = SharedModels(Notes(), 3), [], []
    expected = HashScorer("small").losses(SAMPLES, KEPT)
    for name in order:
        begin, end = PARTS.get(name, (0, 6))
        assert ask(models, name, text_by_text, asked, grouped) == expected[begin:end]
    assert sorted(asked, key=SAMPLES.index) == SAMPLES
    groups = [1] * 6 if text_by_text else [3, 2, 1]
    begins = itertools.accumulate(groups, initial=0)
    assert {tuple(SAMPLES[b : b + size]) for b, size in zip(begins, groups, strict=False)} == {*filter(None, grouped)}


def test_what_is_provisional_ends_after_its_batch_is_not_kept_and_keeps_nobody_else_from_the_whole():
    models, ended, asked = SharedModels(Notes(), 3), threading.Event(), []

    def opened(relay):
        class InBatches(HashScorer):
            def losses(self, samples, kept_chars, heard=None, groups=None):
                for sample in samples:
                    asked.append(sample)
                    relay.advance()
                return super().losses(samples, kept_chars, heard)

        return InBatches("small")

    provisional = models.scorer("small", opened, part=True, ended=ended)
    assert provisional.losses(SAMPLES, KEPT) == HashScorer("small").losses(SAMPLES, KEPT)
    ended.set()
    with pytest.raises(Abandoned):
        provisional.losses(SAMPLES, KEPT)
    assert asked == [*SAMPLES, SAMPLES[0]]
    assert models.scorer("small", opened).losses(SAMPLES, KEPT) == HashScorer("small").losses(SAMPLES, KEPT)
    assert len(asked) == 13


def test_nothing_is_computed_twice_where_all_ask_at_once():
    models, asked, found = SharedModels(Notes(), 3), [], {}

    def thread(name):
        return threading.Thread(target=lambda: found.update({name: ask(models, name, True, asked, [])}))

    threads = [thread(name) for name in ASKING]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert found["step"] == found["whole ahead"] == HashScorer("small").losses(SAMPLES, KEPT)
    assert sorted(asked, key=SAMPLES.index) == SAMPLES


def test_a_model_whose_batches_are_over_the_whole_question_is_asked_the_whole():
    models, asked = SharedModels(Notes(), 3), []
    models.scorer("small", lambda progress: Counting(asked, [])).losses(SAMPLES[:3], KEPT[:3])
    models.scorer("small", lambda progress: Counting(asked, [])).losses(SAMPLES, KEPT)
    assert asked == SAMPLES[:3] + SAMPLES


def test_what_is_long_past_is_forgotten():
    models, asked = SharedModels(Notes(), 1), []
    for part in (SAMPLES[:2], SAMPLES[2:4], SAMPLES[4:], SAMPLES[:1]):
        models.scorer("small", lambda progress: Counting(asked, []), None, True).losses(part, KEPT[: len(part)])
    assert asked == [*SAMPLES, SAMPLES[0]]


def test_who_waits_for_anothers_computation_hears_of_each_loss_as_it_is_there():
    models, begun, go, heard, early = (
        SharedModels(Notes(), 3),
        threading.Event(),
        threading.Event(),
        {},
        threading.Event(),
    )

    class Slow(HashScorer):
        def losses(self, samples, kept_chars, heard=None, groups=None):
            found = super().losses(samples, kept_chars)
            for number, loss in enumerate(found):
                heard(number, loss)
                begun.set()
                assert go.wait(120) or number
            return found

    def hear(number, loss):
        heard[number] = loss
        early.set()

    step = threading.Thread(target=lambda: models.scorer("large", lambda progress: Slow("large")).losses(SAMPLES, KEPT))
    step.start()
    assert begun.wait(120)
    ahead = threading.Thread(
        target=lambda: models.scorer("large", lambda progress: Slow("large")).losses(SAMPLES, KEPT, hear)
    )
    ahead.start()
    assert early.wait(120), "the step, which came first and tells nobody, has scored one"
    go.set()
    step.join()
    ahead.join()
    assert heard == dict(enumerate(HashScorer("large").losses(SAMPLES, KEPT)))
