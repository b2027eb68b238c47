"""Do the declared bounds hold? The suite at the lowest versions that pyproject.toml admits, and at the newest; once a release.

    python -m star_pipeline_tests.benchmarks.bounds lowest [--folder /tmp/bounds] [--links FOLDER] [-- PYTEST_ARGUMENTS]
    python -m star_pipeline_tests.benchmarks.bounds newest

The environment is made in ``--folder``, beside any checkout, and takes some gigabytes; what pytest says is the result. The packages
that the project names are taken at their lowest (uv's ``lowest-direct``), those that they need at their newest. ``--links`` is a
folder with wheels to prefer, such as a CPU build of torch.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def _run(command: Sequence[str | Path], **options: object) -> int:
    print("+", *command, flush=True)
    return subprocess.run([str(part) for part in command], **options).returncode


def environment(folder: Path, resolution: str, links: str | None, torch: str | None) -> Path:
    """A virtual environment with the project at ``resolution``; returns its Python."""
    python = folder / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    subprocess.run([python, "-m", "pip", "install", "-q", "uv"], check=True)
    fixed = folder / "fixed.txt"
    fixed.write_text(f"torch=={torch}\n" if torch else "")
    uv = [folder / "bin" / "uv", "pip"]
    found = ["--find-links", links] if links else []
    listed = folder / "resolved.txt"
    compiled = [
        *uv,
        "compile",
        "-q",
        ROOT / "pyproject.toml",
        "--extra",
        "test",
        "--resolution",
        resolution,
        "-c",
        fixed,
    ]
    if _run([*compiled, "--python", python, *found, "-o", listed]):
        raise SystemExit("the bounds contradict each other")
    if _run([*uv, "install", "-q", "--python", python, *found, "-r", listed]):
        raise SystemExit("what the bounds admit cannot be installed")
    if _run([*uv, "install", "-q", "--python", python, "--no-deps", "-e", ROOT]):
        raise SystemExit("the project cannot be installed")
    return python


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("which", choices=("lowest", "newest"))
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "star-bounds")
    parser.add_argument("--links", default=os.environ.get("PIP_FIND_LINKS"), help="folder of wheels to prefer")
    parser.add_argument("--torch", help="exactly this torch, where others have no build for this machine")
    given = sys.argv[1:]
    at = given.index("--") if "--" in given else len(given)
    options, for_pytest = parser.parse_args(given[:at]), given[at + 1 :]
    resolution = {"lowest": "lowest-direct", "newest": "highest"}[options.which]
    python = environment(options.folder / options.which, resolution, options.links, options.torch)
    sys.exit(_run([python, "-m", "pytest", "-q", *for_pytest], cwd=ROOT))


if __name__ == "__main__":
    main()
