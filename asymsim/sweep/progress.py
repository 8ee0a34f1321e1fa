"""Progress of a long sweep: scenarios done, rate and remaining time, and at the end the time by phase."""

from __future__ import annotations

import sys
import time
from typing import TextIO

from asymsim.sweep.runner import Outcome

# Seconds between lines: on a terminal, where each replaces the last, and in a log.
SHOWN_EVERY_S = 0.5
LOGGED_EVERY_S = 15.0


class ProgressDisplay:
    """Progress on a stream, from calls with the scenarios done and to do."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._live = self._stream.isatty()
        self._begun = self._last = time.perf_counter()
        self._width = 0

    def __call__(self, done: int, total: int) -> None:
        now = time.perf_counter()
        if now - self._last < (SHOWN_EVERY_S if self._live else LOGGED_EVERY_S) or done >= total:
            return
        self._last = now
        rate = done / (now - self._begun)
        line = (
            f"{done:,} of {total:,} scenarios ({done / total:.0%}), {rate:,.0f}/s, {_span((total - done) / rate)} left"
        )
        if self._live:
            self._stream.write("\r" + line.ljust(self._width))
            self._width = len(line)
        else:
            self._stream.write(line + "\n")
        self._stream.flush()

    def close(self) -> None:
        """Clear the line."""
        if self._live and self._width:
            self._stream.write("\r" + " " * self._width + "\r")
            self._stream.flush()


def _span(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def summary(outcome: Outcome) -> list[str]:
    """Lines about a finished run: parts present, rows, rate and time by phase."""
    statistics, lines = outcome.statistics, []
    if outcome.present:
        lines.append(f"{outcome.present} of {outcome.parts} parts were there already")
    if statistics.rows:
        kept = f", {statistics.kept:,} kept" if statistics.kept < statistics.rows else ""
        rate = statistics.rows / outcome.wall_s
        lines.append(f"{statistics.rows:,} scenarios{kept} in {outcome.wall_s:.1f} s ({rate:,.0f} a second)")
        total = sum(statistics.seconds.values())
        shares = sorted(statistics.seconds.items(), key=lambda item: -item[1])
        lines.append("time of all workers: " + ", ".join(f"{phase} {seconds / total:.1%}" for phase, seconds in shares))
    return lines
