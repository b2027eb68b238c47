"""What is wrong with a store is said in one line, at once, with its remedy."""

import time
from contextlib import contextmanager

import numpy as np
import pytest

from star_pipeline.adapters.lake import Lake
from star_pipeline.adapters.memory import LanceMemoryBank, bank_of
from star_pipeline.adapters.stores.paths import path_at
from star_pipeline.adapters.stores.probe import probe, require_once
from star_pipeline.adapters.stores.settings import S3Settings
from star_pipeline.adapters.stores.trouble import in_one_line
from star_pipeline.core.errors import ConfigError, StoreError
from star_pipeline.core.records import MemoryEntry
from star_pipeline_tests.s3_server import Reply, behind


def said(bucket: str, bank: bool = True, **changed: str) -> str:
    """What a lake's first step says, and its bank's, which is another client's."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in changed.items():
            patch.setenv(name, value)
        began = time.monotonic()
        with pytest.raises(StoreError) as refused:
            Lake.at(f"{bucket}/lake").prepare()
        assert time.monotonic() - began < 30
        assert "\n" not in str(refused.value)
        if not bank:
            return str(refused.value)
        with pytest.raises(StoreError) as of_the_bank:
            bank_of(Lake.at(f"{bucket}/lake"), "m").nearest(np.ones((1, 4)), 1, 1)
        first, last = str(refused.value).split(":")[:2], str(of_the_bank.value).split(":")[:2]
        assert first == last
        assert "mend" in str(of_the_bank.value)
        assert "\n" not in str(of_the_bank.value)
        return str(refused.value)


def test_bucket_credentials_and_endpoint(bucket):
    assert "has no bucket not-there; make it" in said("s3://not-there", bank=False)
    assert "(SignatureDoesNotMatch); mend AWS_ACCESS_KEY_ID" in said(bucket, AWS_SECRET_ACCESS_KEY="wrong")
    assert "(InvalidAccessKeyId); mend AWS_ACCESS_KEY_ID" in said(bucket, AWS_ACCESS_KEY_ID="nobody")
    assert "http://127.0.0.1:9 does not answer; start it, or mend AWS_ENDPOINT_URL" in said(
        bucket, bank=False, AWS_ENDPOINT_URL_S3="http://127.0.0.1:9"
    )


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("status code: 403 Forbidden: <Error><Code>RequestTimeTooSkewed</Code>", "whose clock is wrong"),
        ("status code: 403 Forbidden: <Error><Code>AccessDenied</Code>", "let them read, write, list and delete"),
        ("status code: 301 Moved: <Code>PermanentRedirect</Code>", "set AWS_REGION"),
        ("status code: 400 Bad Request: <Code>ExpiredToken</Code>", "AWS_SESSION_TOKEN"),
        ("Error performing PUT http://169.254.169.254/latest/api/token in 1s", "none are set; set AWS_ACCESS_KEY_ID"),
        ("Server returned non-2xx status code: 503 Service Unavailable", "run the same command to go on"),
    ],
)
def test_each_refusal_has_its_remedy(text, remedy):
    text = text.replace("status code", "Server returned non-2xx status code", 1) if text.startswith("status") else text
    line = in_one_line(Exception(f"Generic S3 error: {text}\nDebug source:"), "s3://bucket/lake/x", S3Settings.of({}))
    assert line.startswith("s3://bucket: Amazon S3 in us-east-1 ")
    assert remedy in line
    assert "\n" not in line


@pytest.mark.parametrize(
    ("environment", "line"),
    [
        *(
            ({"AWS_ENDPOINT_URL": url}, f"AWS_ENDPOINT_URL={url}: expected http://host:port or https://host")
            for url in (
                "minio:9000",
                "localhost",
                "http://",
                "http://h:99999",
                "http://h:0",
                "http://a b",
                "http://[::1",
                "s3://h",
            )
        ),
        (
            {"AWS_ENDPOINT_URL_S3": "minio", "AWS_ENDPOINT_URL": "http://h"},
            "AWS_ENDPOINT_URL_S3=minio: expected http://host",
        ),
        ({"AWS_ENDPOINT_URL": "http://ü:9"}, "AWS_ENDPOINT_URL=http://ü:9: expected"),
        ({"AWS_ACCESS_KEY_ID": "k"}, "AWS_ACCESS_KEY_ID is set, and AWS_SECRET_ACCESS_KEY is not; set both"),
        ({"AWS_SECRET_ACCESS_KEY": "s"}, "AWS_SECRET_ACCESS_KEY is set, and AWS_ACCESS_KEY_ID is not; set both"),
        (
            {"AWS_VIRTUAL_HOSTED_STYLE_REQUEST": "maybe"},
            "AWS_VIRTUAL_HOSTED_STYLE_REQUEST=maybe: expected true or false",
        ),
    ],
)
def test_a_variable_that_no_client_takes_is_named(environment, line, monkeypatch):
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError) as refused:
        Lake.at("s3://bucket/lake").prepare()
    assert str(refused.value).startswith(line)


def test_what_is_well_is_said_and_leaves_nothing_behind(bucket):
    root = path_at(f"{bucket}/lake")
    [(good, line)] = probe(root)
    assert good
    assert "makes once what is to be made once" in line
    assert [*root.rglob("*")] == []


def test_a_store_that_ignores_if_none_match_is_refused(s3, bucket, monkeypatch):
    with careless(s3) as endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        with pytest.raises(StoreError, match="does not honour If-None-Match"):
            require_once(path_at(f"{bucket}/lake"))
        with pytest.raises(StoreError, match="does not honour If-None-Match"):
            Lake.at(f"{bucket}/lake").prepare()


def test_another_clock_is_told_of(s3, bucket, monkeypatch):
    now = time.time
    monkeypatch.setattr("star_pipeline.adapters.stores.probe.time.time", lambda: now() + 100)
    wrong = [line for good, line in probe(path_at(f"{bucket}/lake")) if not good]
    assert len(wrong) == 1
    assert "clock is" in wrong[0]
    assert "s ahead of the store's" in wrong[0]


def test_a_bank_in_a_bucket_finds_what_one_in_a_folder_finds(bucket, tmp_path):
    lake, drawn = Lake.at(f"{bucket}/lake"), np.random.default_rng(7)
    local, shared = LanceMemoryBank(str(tmp_path / "bank"), "m", fragments=2), bank_of(lake, "m")
    shared._bank._fragments = 2  # so that it is compacted within the test
    for number in range(5):
        entries = [
            MemoryEntry(f"s{number}{n}", f"c{number}{n}", f"k{number}", number, f"i{n}", f"p{n % 3}", 0.5)
            for n in range(6)
        ]
        vectors = drawn.normal(size=(6, 8)).astype(np.float32)
        assert local.replace_shard(f"k{number}", entries, vectors) == shared.replace_shard(
            f"k{number}", entries, vectors
        )
    asked = drawn.normal(size=(9, 8)).astype(np.float32)
    assert shared.nearest(asked, 4, 4) == local.nearest(asked, 4, 4)
    assert lake.memory_bank.exists()


@contextmanager
def careless(server):
    """The server behind one that answers a put which finds its place taken as if it had been free, and then it has been."""

    def answered(method, path, body, reply):
        if reply.status != 412:
            return reply
        server.overwrite(path, body)
        return Reply(200, {"ETag": '"careless"'}, b"")

    with behind(server, answered) as endpoint:
        yield endpoint
