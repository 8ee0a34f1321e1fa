"""The command ``sweep``."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Group, Parameter

from asymsim.cli import flags
from asymsim.cli.shared_flags import check_threads
from asymsim.cli.terminal import say

SWEEP = Group("Sweep", sort_key=2)


def sweep(
    study: str,
    /,
    *,
    workers: Annotated[int | None, Parameter(group=SWEEP)] = None,
    scheduler: Annotated[str | None, Parameter(group=SWEEP)] = None,
    local_cluster: Annotated[int | None, Parameter(group=SWEEP)] = None,
    yes: Annotated[bool, Parameter(group=SWEEP, negative="")] = False,
    out: Annotated[str, Parameter(group=flags.OUTPUT)] = "out",
) -> None:
    """Evaluate all scenarios of a study. A second start continues with the missing parts.

    Parameters
    ----------
    study
        TOML file with axes, filters and outputs.
    workers
        Threads of this process; all cores by default.
    scheduler
        Address of a running Dask scheduler, such as tcp://host:8786, to run there instead.
    local_cluster
        Start a Dask cluster of this many local processes for the run.
    yes
        Start also with more than 10^12 scenarios.
    out
        Folder below which the study gets one of its own.
    """
    from asymsim.sweep.cluster import client
    from asymsim.sweep.progress import ProgressDisplay, summary
    from asymsim.sweep.runner import run_study
    from asymsim.sweep.study_file import read_study

    parsed = read_study(study)
    check_threads(workers)
    display = ProgressDisplay()
    try:
        with client(scheduler, local_cluster) as cluster_client:
            outcome = run_study(parsed, out, workers=workers, client=cluster_client, yes=yes, progress=display)
    finally:
        display.close()
    for line in summary(outcome):
        say(line)
    say(f"wrote {outcome.path}")
