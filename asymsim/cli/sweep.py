"""Many scenarios from one study."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Group, Parameter

from asymsim.cli import flags
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
    """Evaluate all scenarios of a study; started again, it goes on with what is missing.

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
    from asymsim.util.errors import InputError

    asked = read_study(study)
    if workers is not None and not 1 <= workers <= 1024:
        raise InputError("workers", workers, "give 1 to 1024 threads")
    watch = ProgressDisplay()
    try:
        with client(scheduler, local_cluster) as given:
            outcome = run_study(asked, out, workers=workers, client=given, yes=yes, progress=watch)
    finally:
        watch.close()
    for line in summary(outcome):
        say(line)
    say(f"wrote {outcome.path}")
