"""The command ``reproduce``."""

from __future__ import annotations

from asymsim.cli.shared_flags import FormatFlag, OutFlag
from asymsim.cli.terminal import emit, say
from asymsim.reporting.reproduction_view import reproduction_parts


def reproduce(*, format: FormatFlag = None, out: OutFlag = None) -> None:
    """Recompute the tables that papers published, and show the differences."""
    from asymsim.analysis.reproduce import reproduced_rows

    rows = reproduced_rows()
    emit(rows, rows, lambda: reproduction_parts(rows), format, out)
    for kind in dict.fromkeys(row["kind"] for row in rows):
        statuses = [row["status"] for row in rows if row["kind"] == kind]
        others = "".join(f", {statuses.count(name)} {name}" for name in sorted({*statuses} - {"reproduced"}))
        say(f"{kind}: {statuses.count('reproduced')} of {len(statuses)} published figures reproduced{others}")
