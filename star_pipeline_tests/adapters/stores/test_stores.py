"""Both stores keep the port's promises: a folder, and a bucket of a real S3 server."""

import hashlib
import io
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from star_pipeline.adapters.lake import Lake, write_once
from star_pipeline.adapters.stores import objects
from star_pipeline.adapters.stores.keeper import require_kept_here
from star_pipeline.adapters.stores.local import LocalStore
from star_pipeline.adapters.stores.paths import StorePath, path_at
from star_pipeline.adapters.stores.workspace import copies, workspace_of
from star_pipeline.core.errors import ConfigError, LakeError, StoreError


@pytest.fixture(params=["folder", "bucket"])
def store(request, tmp_path):
    if request.param == "folder":
        return LocalStore(tmp_path)
    bucket = request.getfixturevalue("bucket")
    return objects.object_store(bucket.removeprefix("s3://"))


def test_an_object_is_there_whole_and_its_etag_changes_with_it(store, tmp_path):
    assert store.head("a/x") is None
    with pytest.raises(FileNotFoundError):
        store.get("a/x")
    first = store.put("a/x", b"one")
    assert (store.get("a/x"), store.head("a/x").etag, store.head("a/x").size) == (b"one", first, 3)
    (tmp_path / "given").write_bytes(b"another")
    assert store.put("a/x", tmp_path / "given") == store.head("a/x").etag != first
    assert store.open("a/x").read() == b"another"
    with pytest.raises(StoreError, match="changed while it was read"):
        store.open("a/x", first)


def test_a_listing_shows_what_was_just_put_and_no_neighbour(store):
    for key in ("tables/a/1", "tables/a/2", "tables/ab/3"):
        store.put(key, key.encode())
    assert {found.key: found.size for found in store.list("tables/a")} == {"tables/a/1": 10, "tables/a/2": 10}
    assert all(found.etag == store.head(found.key).etag for found in store.list("tables"))
    store.delete("tables/a/1")
    store.delete("tables/a/1")
    assert [found.key for found in store.list("tables/a")] == ["tables/a/2"]
    assert list(store.list("nowhere")) == []


def test_of_sixteen_who_create_at_once_one_succeeds(store):
    with ThreadPoolExecutor(16) as pool:
        won = list(pool.map(lambda n: store.create("journal/lake_id", b"%d" % n), range(16)))
    assert won.count(True) == 1
    assert store.get("journal/lake_id") == b"%d" % won.index(True)


def test_a_large_object_is_read_in_pieces_of_one_version(bucket, monkeypatch):
    monkeypatch.setattr(objects, "_WHOLE", 1 << 16)
    store, content = objects.object_store(bucket.removeprefix("s3://")), os.urandom(300_000)
    store.put("large", content)
    with store.open("large") as file:
        assert not isinstance(file, io.BytesIO)
        assert hashlib.file_digest(file, "sha256").digest() == hashlib.sha256(content).digest()
        file.seek(-10, io.SEEK_END)
        assert file.read() == content[-10:]
        store.put("large", content[::-1])
        file.seek(0)
        with pytest.raises(StoreError, match="changed while it was read"):
            file.read()


def test_paths_of_objects_are_as_those_of_files(bucket):
    root = path_at(f"{bucket}/some/lake/")
    (root / "seeds" / "deep").mkdir(parents=True)
    for name in ("a.jsonl", "deep/b.jsonl"):
        (root / "seeds" / name).write_bytes(b"{}")
    seeds = root / "seeds"
    assert str(seeds / "a.jsonl") == f"{bucket}/some/lake/seeds/a.jsonl"
    assert {path.relative_to(seeds).as_posix() for path in seeds.rglob("*")} == {"a.jsonl", "deep/b.jsonl"}
    assert [path.name for path in seeds.glob("*.jsonl")] == ["a.jsonl"]
    assert seeds.is_dir()
    assert not seeds.is_file()
    assert (seeds / "a.jsonl").stat().st_size == 2
    assert (seeds / "a.jsonl").open().read() == (seeds / "a.jsonl").read_text() == "{}"
    with pytest.raises(FileNotFoundError):
        (seeds / "c.jsonl").unlink()
    (seeds / "a.jsonl").unlink()
    assert not (seeds / "a.jsonl").exists()
    assert not (root / "tables").exists()


@pytest.mark.parametrize(
    "place",
    [
        "gs://b/x",
        "S3://bucket/x",
        "s3:/bucket/x",
        "s3://",
        "s3://Bucket/x",
        "s3://bucket/a?b",
        "s3://bucket/a//b",
        "s3://bucket/../x",
        "s3://a..bucket/x",
        "s3://192.168.5.4/x",
        "s3://xn--bucket/x",
        "s3://bu/x",
        "s3://bucket_of_mine/x",
    ],
)
def test_a_place_that_cannot_be_is_refused_in_one_line(place):
    with pytest.raises(ConfigError, match=r"expected .*s3://bucket/prefix") as refused:
        Lake.at(place)
    assert "\n" not in str(refused.value)


def test_what_is_made_once_is_the_same_for_all(bucket, tmp_path):
    for root in (tmp_path, f"{bucket}/lake"):
        with ThreadPoolExecutor(2) as pool:
            assert len({*pool.map(lambda _, root=root: Lake.at(root).lake_id, range(2))}) == 1
        path = Lake.at(root).root / "once"
        assert [write_once(path, word) for word in (b"a", b"b")] == [b"a", b"a"]


def test_copies_are_renewed_when_the_etag_changes_and_only_then(bucket, tmp_path):
    lake = Lake.at(f"{bucket}/lake")
    paths = [lake.root / "tables" / "candidates" / f"{name}.parquet" for name in ("1", "2")]
    for path in paths:
        path.write_bytes(b"old " + path.stem.encode())
    first = copies(paths, tmp_path)
    assert [Path(file).read_bytes() for file in first] == [b"old 1", b"old 2"]
    assert [Path(file).parts[-2:] for file in first] == [("candidates", "1.parquet"), ("candidates", "2.parquet")]
    touched = Path(first[0]).stat().st_mtime_ns
    paths[1].write_bytes(b"new 2")
    second = copies(paths, tmp_path)
    assert [Path(file).read_bytes() for file in second] == [b"old 1", b"new 2"]
    assert (second[0], Path(second[0]).stat().st_mtime_ns) == (first[0], touched)
    assert lake.local_files([paths[1]])[0].startswith(str(lake.workspace))
    with pytest.raises(FileNotFoundError):
        copies([lake.root / "nothing"], tmp_path)


def test_a_file_made_here_is_put_whole_and_is_the_copy(bucket):
    lake = Lake.at(f"{bucket}/lake")

    def half() -> None:
        with lake.made_locally(lake.inspection) as place:
            place.write_bytes(b"half")
            raise KeyError

    with pytest.raises(KeyError):
        half()
    assert not lake.inspection.exists()
    with lake.made_locally(lake.inspection) as place:
        place.write_bytes(b"whole")
    assert lake.inspection.read_bytes() == b"whole"
    [copy] = lake.local_files([lake.inspection])
    assert (Path(copy).name, Path(copy).read_bytes()) == ("inspect.duckdb", b"whole")
    assert not [*Path(str(lake.workspace)).glob(".*partial*")]


def test_a_listed_lake_is_as_it_was_with_what_is_written_through_it(bucket, monkeypatch):
    lake = Lake.at(f"{bucket}/lake")
    one, two, seed = (lake.root / name for name in ("tables/candidates/1.parquet", "tables/x.parquet", "seeds/s"))
    one.write_bytes(b"old")
    with lake.as_listed("tables"):
        assert (one.read_bytes(), two.exists(), seed.exists()) == (b"old", False, False)
        one.store.put(one.key, b"mine")
        two.write_bytes(b"new")
        assert (one.read_bytes(), one.open("rb").read(), one.stored.size) == (b"mine", b"mine", 4)
        assert {path.name for path in (lake.root / "tables").rglob("*")} == {"1.parquet", "x.parquet"}
        with ThreadPoolExecutor(1) as another:  # who sees the bucket itself
            another.submit(lambda: (two.unlink(), seed.write_bytes(b"s"))).result()
        assert (two.exists(), seed.exists()) == (True, True)
        with lake.as_listed("tables"):
            assert not two.exists()
            two.write_bytes(b"again")
        assert (two.read_bytes(), two.stored.size) == (b"again", 5)
        two.unlink()
        assert not two.exists()
        with pytest.raises(FileNotFoundError):
            two.read_bytes()
    with lake.as_listed("tables"):
        assert one.exists()
        with ThreadPoolExecutor(1) as another:
            another.submit(one.write_bytes, b"theirs").result()
        assert one.read_bytes() == b"mine"  # its copy is that version
        [copy] = lake.local_files([one])
        os.truncate(copy, 2)  # as a power cut may leave it
        with pytest.raises(StoreError, match="changed while it was read; do the same again"):
            one.read_bytes()
    assert one.read_bytes() == b"theirs"


def test_two_lakes_and_two_endpoints_have_workspaces_of_their_own(tmp_path):
    places = {
        workspace_of(address, {"STAR_WORKSPACE": str(tmp_path), "AWS_ENDPOINT_URL": endpoint})
        for address in ("s3://b/lake", "s3://b-lake", "s3://b/lake/2")
        for endpoint in ("", "http://minio:9000")
    }
    assert len(places) == 6
    assert all(place.parent == tmp_path for place in places)
    assert workspace_of("s3://b/lake", {"XDG_CACHE_HOME": "/c"}).parent == Path("/c/star-pipeline")


def test_only_the_machine_that_keeps_the_replies_may_run_the_lake(bucket, tmp_path):
    root = path_at(f"{bucket}/lake")
    one, two = path_at(str(tmp_path / "one")), path_at(str(tmp_path / "two"))
    require_kept_here(root, two, from_now_on=False)
    for _ in range(2):
        require_kept_here(root, one, from_now_on=True)
    with pytest.raises(LakeError, match=f"its replies are kept on .* in {one}.*postgres_env"):
        require_kept_here(root, two, from_now_on=False)


def test_a_lake_copied_from_a_folder_is_not_run_without_its_replies(bucket, tmp_path):
    root, here = path_at(f"{bucket}/lake"), path_at(str(tmp_path / "here"))
    (root / "journal" / "journal.sqlite").write_bytes(b"replies that were paid")
    with pytest.raises(
        LakeError, match=f"journal/journal.sqlite: the replies of .* download it .* to {here}/journal.sqlite"
    ):
        require_kept_here(root, here, from_now_on=True)
    here.mkdir()
    (here / "journal.sqlite").write_bytes((root / "journal" / "journal.sqlite").read_bytes())
    require_kept_here(root, here, from_now_on=True)


def test_nothing_of_s3_is_loaded_for_a_lake_in_a_folder(tmp_path):
    code = "import star_pipeline.definitions, sys; assert not {'obstore', 's3fs', 'boto3'} & {*sys.modules}"
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "STAR_LAKE": str(tmp_path)})


def test_without_obstore_a_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "obstore.store", None)
    with pytest.raises(ConfigError, match=r'pip install "star-pipeline\[s3\]"'):
        Lake.at("s3://bucket-of-nobody/lake").prepare()
    assert isinstance(Lake.at("s3://bucket/lake").root, StorePath)
