"""Whatever a server sends: no good reply is lost, no row is without text or reason, nothing stands still for ever."""

import asyncio

import pytest

from star_pipeline.adapters.llm.wire import reason, tidy, tokens
from star_pipeline_tests.benchmarks.hostile_replies import ask_all
from star_pipeline_tests.hostile import hostile, script
from star_pipeline_tests.llm_server import chat_server


def test_no_good_reply_is_lost_and_every_row_has_text_or_a_reason(tmp_path):
    good = [number for number in range(1, 200) if hostile(3, number, 20_000)[1] is not None]
    with chat_server(script(3, 20_000)) as server:
        told = asyncio.run(ask_all(server.url, tmp_path, range(1, 200), 3, 20_000, to_judge=20))
        del server.requests[:]
        again = asyncio.run(ask_all(server.url, tmp_path, good, 3, 20_000))
        assert {request["messages"][0]["content"] for request in server.requests} <= {"question 0."}
    assert (told.lost, told.silent, again.lost) == ([], [], [])
    assert told.replies >= len(good)
    assert told.failed > 10
    assert again.replies == len(good) + 1


@pytest.mark.parametrize(
    ("said", "count"),
    [(5, 5), (0, 0), ("12", 12), (3.0, 3), (1.5, None), (-1, None), (True, None), (None, None), ("x", None), (10**19, None)],
)  # fmt: skip  # read as a table
def test_tokens_are_counted_or_not_known(said, count):
    assert tokens(said) == count


def test_what_is_as_it_should_be_is_left_alone_and_what_is_not_a_completion_too():
    message = {"role": "assistant", "content": "fine"}
    usage = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
    whole = {"id": "x", "choices": [{"index": 0, "finish_reason": "stop", "message": message}], "usage": usage}
    for said in (whole, {"error": "x"}, [], None, {"choices": "x"}):
        assert tidy(said) is said
    assert tidy({**whole, "created": "now"}) == whole
    assert [reason(said) for said in ("length", None, 7, ["stop"], "a\ud800")] == [
        "length",
        "stop",
        "stop",
        "stop",
        "a?",
    ]
