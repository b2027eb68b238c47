"""Makes the lake that later versions must still open, with the version that is checked out; once a release.

    python -m star_pipeline_tests.lakes.make

It runs the offline profile on twelve of the starter seeds, in two shards, and packs the lake as ``VERSION.tar.xz`` beside this
file, without what can be had again: the trained models, the journal's ballast, the report. ``test_earlier_lakes`` opens every one.
"""

import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
from importlib import metadata, resources
from pathlib import Path

import yaml

_SEEDS, _SHARD = 12, 6
_LEFT_OUT = ("models", ".ballast", "report.html")


def make(folder: Path) -> Path:
    """Run the small lake under ``folder`` and pack it; returns the archive."""
    package = resources.files("star_pipeline")
    starter = (package / "adapters" / "offline" / "starter_seeds.jsonl").read_text("utf-8")
    (folder / "seeds.jsonl").write_text("".join(starter.splitlines(keepends=True)[:_SEEDS]), "utf-8")
    config = yaml.safe_load((package / "profiles" / "offline.yaml").read_text("utf-8"))
    config["name"], config["sampling"]["shard_size"] = "small", _SHARD
    (folder / "small.yaml").write_text(json.dumps(config, indent=1), "utf-8")
    star = Path(sys.executable).with_name("star-pipeline")
    subprocess.run(
        [star, "run", "--config", "small.yaml", "--lake", "lake", "--seeds", "seeds.jsonl"], cwd=folder, check=True
    )
    archive = Path(__file__).with_name(f"{metadata.version('star-pipeline')}.tar.xz")
    with tarfile.open(archive, "w:xz") as packed:
        for name in ("small.yaml", "lake"):
            packed.add(folder / name, name, filter=lambda member: None if _left_out(member.name) else member)
    return archive


def _left_out(name: str) -> bool:
    return any(part in _LEFT_OUT for part in Path(name).parts)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="star-") as made_in:
        if len(sys.argv) > 1:  # models that are trained already
            shutil.copytree(sys.argv[1], Path(made_in) / "lake" / "models")
        print(make(Path(made_in)))
