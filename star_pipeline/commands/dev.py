"""``star-pipeline dev``: the Dagster UI and daemon on a lake, with DAGSTER_HOME inside it."""

import os
import signal
import socket
import sys

from star_pipeline.adapters.lake import Lake
from star_pipeline.config import load_config
from star_pipeline.core.errors import ConfigError
from star_pipeline.instance import fail_dead_runs, open_instance


def serve(config: str, lake: Lake, host: str, port: int) -> None:
    """Becomes ``dagster dev``: signals reach it directly, so that Ctrl-C and SIGTERM end the daemon with it."""
    load_config(config)
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ConfigError(
                f"port {port} on {host} cannot be used ({error.strerror}); choose another with --port"
            ) from error
    instance = open_instance(lake)
    with instance:
        for run_id in fail_dead_runs(instance):
            print(f"run {run_id[:8]} was killed before it ended; marked as failed", file=sys.stderr)
    source = os.path.abspath(config) if os.path.isfile(config) else config
    environment = {
        **os.environ,
        "DAGSTER_HOME": lake.local(lake.dagster_home),
        "STAR_LAKE": lake.local(lake.root),
        "STAR_CONFIG": source,
        # a file of the user's own in the working folder (gql.py, say) must not stand in for a library
        "PYTHONSAFEPATH": "1",
        "PYTHONWARNINGS": "ignore",
    }
    print(f"the UI comes up at http://{host}:{port}; Ctrl-C ends it", file=sys.stderr, flush=True)
    command = ["-m", "dagster", "dev", "-m", "star_pipeline.definitions", "--host", host, "--port", str(port)]
    # a shell that starts us in the background ignores Ctrl-C for us, and Dagster would then ignore SIGTERM as well
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.execve(sys.executable, [sys.executable, *command], environment)
