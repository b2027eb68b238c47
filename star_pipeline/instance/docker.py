"""Each run in a container of its own: named in ``dagster.yaml`` in the place of the default launcher; needs ``dagster-docker``."""

from dagster_docker import DockerRunLauncher

from star_pipeline.instance.queue import ShardOrder


class ShardDockerLauncher(ShardOrder, DockerRunLauncher):  # type: ignore[misc]  # mypy does not see dagster-docker
    """Dagster's launcher for Docker, with its settings; shards keep their order, and dead runs are told."""
