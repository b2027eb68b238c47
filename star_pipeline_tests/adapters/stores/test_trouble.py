"""What is wrong with a store is said in one line, at once, with its remedy."""

import os
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
from star_pipeline.adapters.stores.workspace import workspace_of
from star_pipeline.core.errors import ConfigError, StoreError
from star_pipeline.core.records import MemoryEntry
from star_pipeline_tests.s3_server import KEY, REGION, SECRET, Reply, behind

KEYS = {"AWS_ACCESS_KEY_ID": "k1", "AWS_SECRET_ACCESS_KEY": "s1"}


def said(bucket: str, bank: bool = True, **changed: str) -> str:
    """What a lake's first step says, and its bank's, which is another client's."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in changed.items():
            patch.setenv(name, value)
        began = time.monotonic()
        with pytest.raises(StoreError) as refused:
            Lake.at(f"{bucket}/lake").prepare()
        assert time.monotonic() - began < 60  # the clients' own patience is 180 s
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
        *(
            ({name: region}, f"{name}={region!r}: expected the name of a region, of letters, digits, - and _, such as")
            for name in ("AWS_REGION", "AWS_DEFAULT_REGION")
            for region in ("us east-1", "eu-central-1;", "eu\ncentral-1", '"us-east-1"', "üs-east-1")
        ),
        *(
            ({**KEYS, name: value}, f"{name}: has {odd} in it (its value is not shown); expected letters")
            for name in (*KEYS, "AWS_SESSION_TOKEN")
            for value, odd in (("two words", "' '"), ("a\nb", r"'\n'"), ('"k"', "'\"'"), ("schlüssel", r"'\xfc'"))
        ),
        (
            {"AWS_ENDPOINT_URL": "http://me:hushed@h:9"},
            "AWS_ENDPOINT_URL has a user or a password in it: expected http://",
        ),
        (
            {"AWS_VIRTUAL_HOSTED_STYLE_REQUEST": "maybe"},
            "AWS_VIRTUAL_HOSTED_STYLE_REQUEST=maybe: expected true or false",
        ),
    ],
)
def test_a_variable_that_no_client_takes_is_named(environment, line, monkeypatch):
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError) as refused:
        Lake.at("s3://bucket/lake").prepare()
    assert str(refused.value).startswith(line)
    assert not [
        value for name, value in environment.items() if "KEY" in name and len(value) > 1 and value in str(refused.value)
    ]
    assert "hushed" not in str(refused.value)
    assert "\n" not in str(refused.value)


def test_spaces_and_line_ends_around_a_variable_do_no_harm(s3, bucket, monkeypatch):
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, f" {value}\r\n")
    lake = Lake.at(f"{bucket}/lake")
    lake.prepare()
    bank_of(lake, "m").replace_shard("k1", [MemoryEntry("s", "c", "k1", 1, "i", "p", 0.5)], np.ones((1, 4), np.float32))


def test_a_region_that_nobody_has_is_no_matter_of_the_endpoint():
    error = Exception("Generic S3 error: error sending request for url (https://s3.xx-nowhere-1.amazonaws.com/bucket)")
    line = in_one_line(error, "s3://bucket/lake", S3Settings.of({"AWS_REGION": "xx-nowhere-1"}))
    assert line.startswith(
        "s3://bucket: Amazon S3 in xx-nowhere-1 does not answer; mend AWS_REGION (or set AWS_ENDPOINT_URL)"
    )


@pytest.fixture
def profiles(tmp_path, monkeypatch):
    """Writes ``~/.aws``: the texts of its two files; no variable of S3's is set but those given."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".aws").mkdir()

    def write(credentials="", config="", **variables):
        (tmp_path / ".aws" / "credentials").write_text(credentials)
        (tmp_path / ".aws" / "config").write_text(config)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        return str(tmp_path / ".aws")

    return write


def test_a_profile_reaches_the_store_and_the_bank_as_variables_do(s3, bucket, profiles):
    address = workspace_of(f"{bucket}/lake", {**s3.environment, "STAR_WORKSPACE": "/w"})
    keys = f"aws_access_key_id = {KEY}\naws_secret_access_key={SECRET}\n"
    place = f"region = {REGION}\nendpoint_url = {s3.endpoint}\ns3 =\n  max_concurrent_requests = 5\n"
    profiles(f"[default]\naws_access_key_id = x\naws_secret_access_key = y\n[star]\n{keys}", f"[profile star]\n{place}")
    environment = {"AWS_PROFILE": "star", "HOME": os.environ["HOME"], "STAR_WORKSPACE": "/w"}
    assert workspace_of(f"{bucket}/lake", environment) == address
    assert S3Settings.of(environment).options == S3Settings.of(s3.environment).options
    profiles(keys.join(("[default]\n", "")), place.join(("[default]\n", "")))
    lake = Lake.at(f"{bucket}/lake")
    lake.prepare()
    bank = bank_of(lake, "m")
    bank.replace_shard("k1", [MemoryEntry("s", "c", "k1", 1, "i", "p", 0.5)], np.ones((1, 4), np.float32))
    assert bank.nearest(np.ones((1, 4), np.float32), 1, 2)
    profiles(keys.join(("[default]\n", "")).replace(SECRET, "wrong"), place.join(("[default]\n", "")))
    with pytest.raises(StoreError, match="SignatureDoesNotMatch"):  # a file that was mended is read anew
        lake.prepare()


def test_variables_come_before_the_profile_and_keys_are_never_mixed(profiles):
    keys = "aws_access_key_id = k\naws_secret_access_key = s\naws_session_token = t\n"
    profiles(f"[p]\n{keys}", "[profile p]\nregion = eu-north-1\nendpoint_url = http://profile\n")
    given = {"HOME": os.environ["HOME"], "AWS_PROFILE": "p"}
    told = S3Settings.of({**given, "AWS_ENDPOINT_URL": "http://variable", "AWS_DEFAULT_REGION": "eu-west-1"})
    assert (told.endpoint, told.region, told.key_id, told.token) == ("http://variable", "eu-west-1", "k", "t")
    told = S3Settings.of({**given, **KEYS})
    assert (told.endpoint, told.region, told.key_id, told.secret, told.token) == (
        "http://profile",
        "eu-north-1",
        "k1",
        "s1",
        "",
    )
    unsigned = [S3Settings.of({**given, "AWS_SKIP_SIGNATURE": value}).key_id for value in ("true", "false")]
    assert unsigned == ["", "k"]
    profiles(f"[p]\n{keys.replace('aws_session_token = t', '')}")
    assert S3Settings.of({**given, "AWS_SESSION_TOKEN": "of others"}).token == ""


@pytest.mark.parametrize(
    ("credentials", "config", "line"),
    [
        ("[a]\n[b]\nregion=x", "[profile c]\n[sso-session d]\n[default]", "AWS_PROFILE=p: no such profile in {aws}/credentials or "
         "{aws}/config; expected one of a, b, c, default, or leave"),
        *(
            ("", f"[profile p]\n{way} = it", f"{way} of the profile p in {{aws}}/config: of a profile, keys, region and endpoint_url")
            for way in ("role_arn", "sso_session", "credential_process")
        ),
        ("", "[profile p]\nservices = mine", "services of the profile p in {aws}/config: endpoints of single services"),
        ("[p]\naws_access_key_id = k", "", "aws_access_key_id of the profile p in {aws}/credentials is there, and aws_secret"),
        ("", "[profile p]\nregion = us east", "region of the profile p in {aws}/config='us east': expected the name"),
        ("", "[profile p]\nendpoint_url = minio:9", "endpoint_url of the profile p in {aws}/config=minio:9: expected http"),
        ("aws_secret_access_key = hushed\n[p]", "", "{aws}/credentials, line 1: cannot be read as profiles"),
    ],
)  # fmt: skip  # a case a line
def test_what_a_profile_cannot_be_is_said_in_one_line(credentials, config, line, profiles):
    aws = profiles(credentials, config, AWS_PROFILE="p")
    with pytest.raises(ConfigError) as refused:
        Lake.at("s3://bucket/lake").prepare()
    assert str(refused.value).startswith(line.format(aws=aws))
    assert "\n" not in str(refused.value)
    assert "hushed" not in str(refused.value)


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
