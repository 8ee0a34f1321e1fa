"""Style of all figures: colours, line styles, markers, page width, and PNG bytes."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure


Rows = Sequence[Mapping[str, Any]]
# Paul Tol's "muted" scheme (Colour Schemes, SRON technical note, 2021) and black.
COLORS = (
    "#332288", "#CC6677", "#117733", "#AA4499", "#000000", "#88CCEE", "#999933", "#882255", "#44AA99", "#DDCC77",
)  # fmt: skip
LINES = ("-", "--", "-.", (0, (1, 1.2)), (0, (5, 1, 1, 1, 1, 1)))
MARKERS = "os^Dv*PX<>hp"
A4_WIDTH_INCHES = 8.27


def png(figure: Figure, dpi: int = 200) -> bytes:
    """A figure as PNG bytes."""
    buffer = io.BytesIO()
    # A fixed entry in place of matplotlib's version: equal results make equal files.
    figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": "asymsim"})
    return buffer.getvalue()
