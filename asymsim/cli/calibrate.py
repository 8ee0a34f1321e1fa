"""The command ``calibrate``."""

from __future__ import annotations

from typing import Annotated, Any

from cyclopts import Group, Parameter

from asymsim.cli import flags
from asymsim.cli.flag_values import parse_names
from asymsim.cli.shared_flags import FormatFlag
from asymsim.cli.terminal import emit, say

CALIBRATION = Group("Calibration", sort_key=2)


def calibrate(
    *,
    gpu: Annotated[str | None, Parameter(group=CALIBRATION)] = None,
    section: Annotated[str | None, Parameter(group=CALIBRATION)] = None,
    iterations: Annotated[int, Parameter(group=CALIBRATION)] = 40,
    transfer: Annotated[bool, Parameter(group=CALIBRATION, negative="")] = False,
    records: Annotated[str | None, Parameter(group=CALIBRATION)] = None,
    model: Annotated[str | None, Parameter(group=CALIBRATION)] = None,
    dtype: Annotated[str, Parameter(group=CALIBRATION)] = "bf16",
    tp_size: Annotated[int, Parameter(group=CALIBRATION)] = 1,
    format: FormatFlag = None,
    out: Annotated[str | None, Parameter(group=flags.OUTPUT)] = None,
) -> None:
    """Fit operator times on measured tables, into the GPUs' files; prints errors on held-out shape groups.

    Parameters
    ----------
    gpu
        GPUs joined by commas.
    section
        Sections joined by commas, such as gemm_bf16; all by default.
    iterations
        Basin-hopping iterations of each search; the same number gives the same fit.
    transfer
        Instead of fitting, try the fitted numbers of one GPU on another, and write the intervals of GPUs without
        measurements.
    records
        Your own measurements instead of the tables: a CSV of ``python -m asymsim_kernels.tools.measure`` corrects
        the GPU's operator times; a JSON of ``vllm bench serve --save-result`` gives the host's time per step, as an
        engine.
    model
        With a benchmark: what it served, where its model_id is no name of the catalogue.
    dtype
        With a benchmark: the served number format.
    tp_size
        With a benchmark: the GPUs that served it together.
    out
        File to write instead of the GPU's own, for one GPU; with --transfer, instead of the catalogue's; with a
        benchmark, the engine's file, for --engine.
    """
    from asymsim.calibration.fit import calibrate as fit
    from asymsim.calibration.transfer import write_transfer
    from asymsim.reporting import tables
    from asymsim.util.errors import InputError

    if transfer == (gpu is not None):
        raise InputError("gpu", gpu, "give either --gpu or --transfer")
    if transfer and section is not None:
        raise InputError("section", section, "goes with --gpu; --transfer writes all")
    if records is not None:
        if gpu is None or "," in gpu:
            raise InputError("gpu", gpu, "give the one GPU that the records are of")
        rows = _user_rows(gpu, records, section, iterations, {"model": model, "dtype": dtype, "tp_size": tp_size}, out)
    elif gpu is None:
        rows = write_transfer(out)
    else:
        chosen = parse_names(section, "section") if section else ()
        rows = fit(parse_names(gpu, "gpu"), chosen, iterations, out, say)
    emit(rows, rows, lambda: [tables.records_table(rows)], format, None)


def _user_rows(
    gpu: str, records: str, section: str | None, iterations: int, served: dict[str, Any], out: str | None
) -> list[dict[str, Any]]:
    from asymsim.util.errors import InputError

    if records.lower().endswith(".json"):
        from asymsim.calibration.server_benchmark import fit_engine_host

        if section is not None:
            raise InputError("section", section, "a benchmark corrects none; leave it out")
        return [fit_engine_host(gpu, records, out=out, say=say, **served)]
    from asymsim.calibration.user_fit import calibrate_records

    if served["model"] is not None:
        raise InputError("model", served["model"], "belongs to a benchmark's .json; leave it out")
    return calibrate_records(gpu, records, parse_names(section, "section") if section else (), iterations, out, say)
