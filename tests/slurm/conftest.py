"""A private SLURM cluster for each process that runs tests here; each test finds it idle."""

from collections.abc import Iterator

import pytest
from slurm_cluster import Cluster, NoCluster, private_cluster


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    try:
        with private_cluster() as cluster:
            yield cluster
    except NoCluster as reason:
        raise pytest.fail.Exception(f"no SLURM cluster to test on: {reason}", pytrace=False) from None


@pytest.fixture(autouse=True)
def cleared(cluster: Cluster) -> Iterator[None]:
    yield
    cluster.clear()
