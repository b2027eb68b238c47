"""Each run in a Kubernetes job of its own: named in ``dagster.yaml`` in the place of the default launcher; needs ``dagster-k8s``."""

from dagster_k8s import K8sRunLauncher

from star_pipeline.instance.queue import ShardOrder


class ShardK8sLauncher(ShardOrder, K8sRunLauncher):  # type: ignore[misc]  # mypy does not see dagster-k8s
    """Dagster's launcher for Kubernetes, with its settings; shards keep their order, and dead runs are told."""
