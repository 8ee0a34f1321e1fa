"""The file of one part of a study: its rows evaluated, then reduced or written."""

from __future__ import annotations

from collections.abc import Callable

from asymsim.sweep.blocks import PartStatistics, evaluated_blocks
from asymsim.sweep.study import Study


def run_part(study: Study, part: int, stop: Callable[[], bool] = lambda: False) -> tuple[bytes, PartStatistics]:
    """The file of one part, and its statistics."""
    statistics = PartStatistics()
    first = part * study.part_rows
    last = min(first + study.part_rows, study.grid.rows)
    blocks = evaluated_blocks(study, first, last, statistics, stop)
    if study.format == "reduce":
        from asymsim.sweep.reductions.partial import reduce_blocks

        return reduce_blocks(study, blocks, statistics), statistics
    from asymsim.sweep.rows import csv_bytes, parquet_bytes

    return (csv_bytes if study.format == "csv" else parquet_bytes)(study, blocks, statistics), statistics
