"""Of a model that computes each text by itself no text is asked twice, whoever comes first: a part ahead, the whole ahead, the step."""

import itertools
import threading

import pytest

from star_pipeline.adapters.fakes import HashScorer
from star_pipeline.adapters.shared_models import SharedModels
from star_pipeline.core.ports import ScoringSample
from star_pipeline_tests.commands.test_run import Notes

SAMPLES = [ScoringSample(None, (), f"Question {number}?", f"Answer {number}.") for number in range(6)]
KEPT = [len(sample.response) for sample in SAMPLES]
QUESTIONS = {"part": (0, 3), "other part": (3, 5), "whole ahead": (0, 6), "step": (0, 6)}


class Counting(HashScorer):
    def __init__(self, asked):
        super().__init__("small")
        self.asked = asked

    def losses(self, samples, kept_chars, heard=None):
        self.asked += samples
        return super().losses(samples, kept_chars, heard)


@pytest.mark.parametrize("order", itertools.permutations(QUESTIONS), ids="-".join)
def test_no_text_is_asked_twice_whoever_comes_first(order):
    models, asked = SharedModels(Notes(), 3), []
    expected = HashScorer("small").losses(SAMPLES, KEPT)
    for name in order:
        begin, end = QUESTIONS[name]
        scorer = models.scorer("small", lambda progress: Counting(asked), None, True, "part" in name)
        assert scorer.losses(SAMPLES[begin:end], KEPT[begin:end]) == expected[begin:end]
    assert sorted(asked, key=SAMPLES.index) == SAMPLES


def test_no_text_is_asked_twice_where_all_ask_at_once():
    models, asked, found = SharedModels(Notes(), 3), [], {}

    def ask(name):
        begin, end = QUESTIONS[name]
        scorer = models.scorer("small", lambda progress: Counting(asked), None, True, "part" in name)
        found[name] = scorer.losses(SAMPLES[begin:end], KEPT[begin:end])

    threads = [threading.Thread(target=ask, args=(name,)) for name in QUESTIONS]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found["step"] == found["whole ahead"] == HashScorer("small").losses(SAMPLES, KEPT)
    assert sorted(asked, key=SAMPLES.index) == SAMPLES


def test_a_model_whose_batches_are_over_the_whole_question_is_asked_the_whole():
    models, asked = SharedModels(Notes(), 3), []
    models.scorer("small", lambda progress: Counting(asked)).losses(SAMPLES[:3], KEPT[:3])
    models.scorer("small", lambda progress: Counting(asked)).losses(SAMPLES, KEPT)
    assert asked == SAMPLES[:3] + SAMPLES


def test_what_is_long_past_is_forgotten():
    models, asked = SharedModels(Notes(), 1), []
    for part in (SAMPLES[:2], SAMPLES[2:4], SAMPLES[4:], SAMPLES[:1]):
        models.scorer("small", lambda progress: Counting(asked), None, True).losses(part, KEPT[: len(part)])
    assert asked == [*SAMPLES, SAMPLES[0]]
