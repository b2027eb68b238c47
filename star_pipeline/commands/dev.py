"""``star-pipeline dev``: the Dagster UI and daemon on a lake, with DAGSTER_HOME inside it."""

import glob
import os
import signal
import socket
import sys

from star_pipeline.adapters.lake import Lake
from star_pipeline.adapters.locks import lake_lock
from star_pipeline.config import StarConfig, load_config
from star_pipeline.core.errors import ConfigError
from star_pipeline.instance import database_of, fail_dead_runs, open_instance
from star_pipeline.instance.console import LOCATION

_DG = "from dagster_dg_cli.cli import main; main()"


def serve(config: str, lake: Lake, host: str, port: int) -> None:
    """Becomes ``dg dev``: signals reach it directly, so that Ctrl-C and SIGTERM end the daemon with it.

    Raises LakeError where another ``dev`` serves this lake: two daemons would launch each other's runs.
    """
    settings = load_config(config)
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ConfigError(
                f"port {port} on {host} cannot be used ({error.strerror}); choose another with --port"
            ) from error
    home = lake.local(lake.dagster_home)
    if glob.escape(home) != home:
        raise ConfigError(
            f"--lake {lake.root}: Dagster's UI and daemon find no settings below a folder with [, * or ? in its name; move the lake "
            "(star-pipeline run works on it)"
        )
    lake.prepare()
    lake_lock(settings, lake).hold_for_good(f"star-pipeline dev at http://{host}:{port}")
    prepare_instance(lake, settings)
    print(f"the UI comes up at http://{host}:{port}; Ctrl-C ends it", file=sys.stderr, flush=True)
    # a shell that starts us in the background ignores Ctrl-C for us, and Dagster would then ignore SIGTERM as well
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.execve(sys.executable, dg_dev(host, port), environment(config, lake))


def prepare_instance(lake: Lake, settings: StarConfig) -> None:
    """Settings and pool limit before anything can start; what was killed with the last ``dev`` is marked as failed."""
    with open_instance(lake, at_once=settings.shards_at_once, database=database_of(settings)) as instance:
        for run_id in fail_dead_runs(instance):
            print(f"run {run_id[:8]} was killed before it ended; marked as failed", file=sys.stderr)


def dg_dev(host: str, port: int, module: str = LOCATION) -> list[str]:
    """The command line of Dagster's UI and daemon on the definitions of ``module``, wherever it is called.

    With a module, ``dg`` needs no project folder; by Python and not by its script, which need not be on the path.
    """
    return [sys.executable, "-c", _DG, "dev", "-m", module, "--host", host, "--port", str(port)]


def environment(config: str, lake: Lake) -> dict[str, str]:
    """The environment in which Dagster finds the lake, its instance and the configuration."""
    return {
        **os.environ,
        "DAGSTER_HOME": lake.local(lake.dagster_home),
        "STAR_LAKE": str(lake.root),
        "STAR_CONFIG": os.path.abspath(config) if os.path.isfile(config) else config,
        # many or large seed files take longer to look at than the minute that Dagster gives a sensor
        "DAGSTER_SENSOR_GRPC_TIMEOUT_SECONDS": os.environ.get("DAGSTER_SENSOR_GRPC_TIMEOUT_SECONDS", "300"),
        # a file of the user's own in the working folder (gql.py, say) must not stand in for a library
        "PYTHONSAFEPATH": "1",
        "PYTHONWARNINGS": "ignore",
    }
