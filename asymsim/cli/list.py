"""The command ``list``: entries of the catalogue and of the registry of methods."""

from __future__ import annotations

from typing import Annotated

from cyclopts import App, Parameter

from asymsim.cli import flags
from asymsim.cli.shared_flags import FormatFlag, OutFlag
from asymsim.cli.terminal import emit

listing = App(name="list", help="List the models, GPUs, methods, counting conventions and published accuracy.")


@listing.command
def models(*, format: FormatFlag = None, out: OutFlag = None) -> None:
    """List the models of the catalogue, with the visual tokens of their typical image."""
    from asymsim.reporting.listing import model_rows, model_table

    rows = model_rows()
    emit(rows, rows, lambda: [model_table(rows)], format, out)


@listing.command
def gpus(*, format: FormatFlag = None, out: OutFlag = None) -> None:
    """List the GPUs of the catalogue; peaks are dense."""
    from asymsim.reporting.listing import gpu_rows, gpu_table

    rows = gpu_rows()
    emit(rows, rows, lambda: [gpu_table(rows)], format, out)


@listing.command
def methods(*, format: FormatFlag = None, out: OutFlag = None) -> None:
    """List the pruning methods with their family, default keep, settings and paper."""
    from asymsim.reporting.listing import method_rows
    from asymsim.reporting.tables import records_table

    rows = method_rows()
    emit(rows, rows, lambda: [records_table(rows)], format, out)


@listing.command
def conventions(*, format: FormatFlag = None, out: OutFlag = None) -> None:
    """List the ways to count FLOPs, with their sources."""
    from asymsim.reporting.listing import convention_rows
    from asymsim.reporting.tables import records_table

    rows = convention_rows()
    emit(rows, rows, lambda: [records_table(rows)], format, out)


@listing.command
def accuracy(
    *,
    table: Annotated[
        str | None, Parameter(group=flags.OUTPUT, help="CSV of your measurements, listed after the published ones.")
    ] = None,
    format: FormatFlag = None,
    out: OutFlag = None,
) -> None:
    """List the accuracy of pruned models that papers printed, and your measurements."""
    from asymsim.reporting.listing import accuracy_rows, accuracy_table

    rows = accuracy_rows(table)
    emit(rows, rows, lambda: [accuracy_table(rows)], format, out)
