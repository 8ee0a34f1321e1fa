"""Clients of Dask clusters, for the command line; the sweep itself takes a client and starts nothing."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from asymsim.util.errors import InputError, MissingExtraError

# An unreachable scheduler is told after this long.
PATIENCE_S = 6


@contextmanager
def client(scheduler: str | None, local_workers: int | None) -> Iterator[Any]:
    """A client of a running scheduler or of a cluster of local processes; None where neither is asked for.

    Raises
    ------
    InputError
        If the scheduler cannot be reached, or both are asked for.
    MissingExtraError
        If Dask is not installed.
    """
    if scheduler is None and local_workers is None:
        yield None
        return
    if scheduler is not None and local_workers is not None:
        raise InputError("scheduler", scheduler, "give either a scheduler or --local-cluster")
    if local_workers is not None and not 1 <= local_workers <= 1024:
        raise InputError("local_cluster", local_workers, "give 1 to 1024 processes")
    try:
        import distributed
    except ImportError:
        raise MissingExtraError("a cluster needs Dask: pip install 'asymsim[cluster]'") from None
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    if local_workers is not None:
        with (
            distributed.LocalCluster(
                n_workers=local_workers, threads_per_worker=1, dashboard_address=None, silence_logs=logging.CRITICAL
            ) as cluster,
            distributed.Client(cluster) as local_client,
        ):
            yield local_client
        return
    try:
        remote_client = distributed.Client(scheduler, timeout=PATIENCE_S)
    # Whatever listens there may speak another protocol, and its bytes raise any error.
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        remedy = f"cannot be reached ({reason[:120]}); give the address of a running Dask scheduler"
        raise InputError("scheduler", scheduler, remedy) from None
    with remote_client:
        if not remote_client.nthreads():
            raise InputError("scheduler", scheduler, "has no workers; start some with dask worker")
        yield remote_client
