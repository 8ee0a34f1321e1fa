"""The file of one part of a study: its rows evaluated, then reduced or written."""

from __future__ import annotations

from collections.abc import Callable

from asymsim.sweep.blocks import Work, blocks
from asymsim.sweep.study import Study


def run_part(study: Study, part: int, stop: Callable[[], bool] = lambda: False) -> tuple[bytes, Work]:
    """The file of one part, and what it took."""
    work = Work()
    first = part * study.part_rows
    last = min(first + study.part_rows, study.grid.rows)
    made = blocks(study, first, last, work, stop)
    if study.format == "reduce":
        from asymsim.sweep.reductions.partial import reduce_blocks

        return reduce_blocks(study, made, work), work
    from asymsim.sweep.rows import csv_bytes, parquet_bytes

    return (csv_bytes if study.format == "csv" else parquet_bytes)(study, made, work), work
