"""What a person sees of a long sweep: how far it is, how fast, how long yet, and where the time went."""

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
    """What a run did, in lines."""
    work, lines = outcome.work, []
    if outcome.present:
        lines.append(f"{outcome.present} of {outcome.parts} parts were there already")
    if work.rows:
        kept = f", {work.kept:,} kept" if work.kept < work.rows else ""
        lines.append(
            f"{work.rows:,} scenarios{kept} in {outcome.wall_s:.1f} s ({work.rows / outcome.wall_s:,.0f} a second)"
        )
        total = sum(work.seconds.values())
        shares = sorted(work.seconds.items(), key=lambda item: -item[1])
        lines.append("time of all workers: " + ", ".join(f"{phase} {each / total:.1%}" for phase, each in shares))
    return lines
