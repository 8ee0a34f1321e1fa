"""Run a study: its missing parts on threads of this process, or on a Dask cluster that the caller gives."""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from asymsim.estimator.resolve import resolve
from asymsim.estimator.token_counts import scenario_tokens
from asymsim.sweep.blocks import PartStatistics, StoppedError
from asymsim.sweep.part import run_part
from asymsim.sweep.result import result_of
from asymsim.sweep.store import Store
from asymsim.sweep.study import Study
from asymsim.sweep.study_file import parse_study
from asymsim.util.errors import InputError, UnknownNameError
from asymsim.util.parquet import arrow

Parts = Generator[tuple[int, bytes, PartStatistics], None, None]
# More than this only with the user's consent: months of work.
UNASKED_ROWS = 10**12
# Configurations resolved before the start, so that a bad combination shows at once.
TRIED_CONFIGURATIONS = 2048


@dataclass
class Outcome:
    """A finished study: its path, its reductions, and the statistics of this run."""

    path: Path
    result: dict[str, Any] | None
    statistics: PartStatistics
    wall_s: float
    parts: int
    present: int


def run_study(
    study: Study,
    out: str | Path,
    *,
    workers: int | None = None,
    client: Any = None,
    yes: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Outcome:
    """Make what is missing of a study's result.

    Parameters
    ----------
    study : Study
    out : str or pathlib.Path
        A folder; the result lies below it, under the study's name and hash.
    workers : int, optional
        Threads of this process; all cores by default. Compiled code runs beside each other.
    client : distributed.Client, optional
        A cluster to run on instead; it is left as it was.
    yes : bool
        Start also with more than 10**12 scenarios.
    progress : callable, optional
        Told the scenarios done in this run and those to do.

    Raises
    ------
    AsymsimError
        If the study or the folder is at fault; parts that were made remain.
    """
    if study.grid.rows > UNASKED_ROWS and not yes:
        raise InputError("study", f"{study.grid.rows:.3g} scenarios", "is more than 1e12; start it with --yes")
    if study.format == "parquet":
        arrow()
    _try_configurations(study)
    store = Store(study, out)
    missing = store.missing()
    begun = time.perf_counter()
    statistics = PartStatistics()
    todo = sum(min(study.part_rows, study.grid.rows - part * study.part_rows) for part in missing)
    source = _on_threads(study, missing, workers) if client is None else _on_cluster(study, missing, client)
    try:
        for part, content, part_statistics in source:
            now = time.perf_counter()
            store.write(part, content)
            part_statistics.add_time("write", now)
            statistics.add(part_statistics)
            if progress is not None:
                progress(statistics.rows, todo)
    finally:
        source.close()
    result = None
    if study.format == "reduce":
        if store.result_path.exists():
            result = store.result()
        else:
            now = time.perf_counter()
            result = result_of(study, store.merged())
            statistics.add_time("merge", now)
    store.finish(result)
    wall_s = time.perf_counter() - begun
    path = store.folder if result is None else store.result_path
    return Outcome(path, result, statistics, wall_s, study.parts, study.parts - len(missing))


def _try_configurations(study: Study) -> None:
    grid = study.grid
    for number in range(min(grid.configurations, TRIED_CONFIGURATIONS)):
        try:
            scenario = grid.scenario(number * grid.rows_per_configuration)
            scenario_tokens(scenario, resolve(scenario).model)
        except InputError as error:
            if study.only_possible and not isinstance(error, UnknownNameError):
                continue
            items = ", ".join(f"{field} {value}" for field, value in grid.outer_items(number).items())
            if not items:
                raise
            raise InputError(error.field, error.value, f"{error.remedy} (at {items})") from None


def _on_threads(study: Study, parts: Sequence[int], workers: int | None) -> Parts:
    count = min(workers or os.cpu_count() or 1, max(1, len(parts)))
    stopped = threading.Event()
    rest = iter(parts)
    pool = ThreadPoolExecutor(count)
    try:
        # A few more than threads, so that none waits for the writer.
        running = {
            pool.submit(run_part, study, part, stopped.is_set): part for part in itertools.islice(rest, 2 * count)
        }
        while running:
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                part = running.pop(future)
                content, statistics = future.result()
                following = next(rest, None)
                if following is not None:
                    running[pool.submit(run_part, study, following, stopped.is_set)] = following
                yield part, content, statistics
    finally:
        stopped.set()
        pool.shutdown(wait=True, cancel_futures=True)


def _on_cluster(study: Study, parts: Sequence[int], client: Any) -> Parts:
    from distributed import as_completed

    rest = iter(parts)
    count = max(2, 3 * sum(client.nthreads().values()))

    def submit(part: int) -> Any:
        key = f"asymsim-{study.hash}-{part}-{os.getpid()}-{id(client)}"
        return client.submit(remote_part, study.document, study.name, study.hash, part, key=key, pure=False)

    running = {(future := submit(part)).key: (future, part) for part in itertools.islice(rest, count)}
    try:
        finished = as_completed([future for future, _ in running.values()])
        for future in finished:
            _, part = running.pop(future.key)
            content, statistics = future.result()
            future.release()
            following = next(rest, None)
            if following is not None:
                more = submit(following)
                running[more.key] = (more, following)
                finished.add(more)
            yield part, content, statistics
    finally:
        client.cancel([future for future, _ in running.values()])


@lru_cache(maxsize=4)
def _study(hash: str, name: str, document: str) -> Study:
    import json

    study = parse_study(json.loads(document), name)
    if study.hash != hash:
        raise InputError("scheduler", study.hash, f"a worker reads another study than {hash}: its asymsim differs")
    return study


def remote_part(document: dict[str, Any], name: str, hash: str, part: int) -> tuple[bytes, PartStatistics]:
    """One part, on a worker of a cluster."""
    import json

    return run_part(_study(hash, name, json.dumps(document)), part)


__all__ = ["Outcome", "StoppedError", "remote_part", "run_study"]
