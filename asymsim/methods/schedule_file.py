"""The user's own schedule: a TOML file, every key checked, to a ``Schedule``."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any, get_args

from asymsim.methods.schedule import KvPolicy, Operation, Place, Recycle, Schedule, Stage, Step, TextEviction
from asymsim.util.errors import InputError
from asymsim.util.toml import Reader, choice, each, flag, integer, need, per_layer, share, size, table


def read_schedule(path: str | Path) -> Schedule:
    """Read a schedule from TOML; ``docs/schedule-file.md`` lists the keys.

    Layers are checked against a model when the schedule meets one.

    Raises
    ------
    InputError
        If the file cannot be read, is no TOML, or has an unknown key or a value of the wrong kind or range.
    """
    shown = str(path)
    try:
        content = tomllib.loads(Path(path).read_bytes().decode())
    except FileNotFoundError as error:
        raise InputError("schedule", shown, "no such file; give the path of a TOML file") from error
    except UnicodeDecodeError as error:
        raise InputError("schedule", shown, f"not UTF-8 at byte {error.start}; save it as UTF-8 text") from error
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise InputError("schedule", shown, f"{reason}; give a TOML file") from error
    return parse_schedule(content)


def parse_schedule(content: Mapping[str, object]) -> Schedule:
    """The schedule that a parsed file describes."""
    values = table(content, "schedule", _FILE)
    unfused = values.get("unfused", {})
    return Schedule(
        steps=values.get("step", ()),
        operations=values.get("operation", ()),
        unfused=tuple((stage, layer) for stage in ("encoder", "lm") for layer in unfused.get(stage, ())),
        kv=values.get("kv", KvPolicy()),
        text_eviction=values.get("text_eviction"),
        masking=values.get("masking", False),
    )


def _step(value: object, where: str) -> Step:
    values = table(value, where, _STEP)
    need(values, ("stage",), where)
    amounts = [key for key in ("keep", "keep_count", "drop_count") if key in values]
    if len(amounts) != 1:
        raise InputError(where, amounts, "give exactly one of keep, keep_count and drop_count")
    if values["stage"] != "encoder_end":
        need(values, ("layer",), where)
    if amounts != ["keep"]:
        for key in ("of", "rounding"):
            if key in values:
                raise InputError(f"{where}: {key}", values[key], "goes with keep alone")
    if values.get("target") == "text" and values["stage"] != "lm":
        raise InputError(f"{where}: target", "text", 'text tokens leave at stage = "lm" alone')
    rule: dict[str, Any] = {key: values[key] for key in values if key not in (*amounts, "recycle")}
    amount = values[amounts[0]]
    if amounts == ["keep"]:
        rule["share"] = amount
    elif amounts == ["keep_count"]:
        rule["plus"] = amount
    else:
        rule.update(share=Fraction(1), of="present", plus=-amount)
    return Step(**rule, recycled=values.get("recycle"))


def _recycle(value: object, where: str) -> Recycle:
    return Recycle(**table(value, where, _RECYCLE))


def _operation(value: object, where: str) -> Operation:
    values = table(value, where, _OPERATION)
    need(values, ("kind", "stage"), where)
    if values["stage"] not in ("encoder_end", "kv", "decode"):
        need(values, ("layer",), where)
    return Operation(**values)


def _kv(value: object, where: str) -> KvPolicy:
    values = table(value, where, _KV)
    if "count" in values:
        values["plus"] = values.pop("count")
        values.setdefault("share", (Fraction(0),))
    return KvPolicy(**values)


def _eviction(value: object, where: str) -> TextEviction:
    values = table(value, where, _EVICTION)
    need(values, ("threshold_tokens", "retain"), where)
    return TextEviction(**values)


def _unfused(value: object, where: str) -> dict[str, Any]:
    layers = each(integer(0), "layers")
    return table(value, where, {"encoder": layers, "lm": layers})


_COUNT = integer(0)
_RECYCLE: dict[str, Reader] = {"share": share, "plus": _COUNT, "divisor": integer(1), "extra": _COUNT}
_STEP: dict[str, Reader] = {
    "stage": choice(*get_args(Stage)),
    "layer": _COUNT,
    "target": choice("visual", "text"),
    "keep": share,
    "keep_count": _COUNT,
    "drop_count": _COUNT,
    "of": choice("original", "present"),
    "rounding": choice("floor", "nearest", "ceil"),
    "at_least": share,
    "recycle": _recycle,
}
_OPERATION: dict[str, Reader] = {
    "kind": choice("projection", "gemm", "attention", "elementwise"),
    "stage": choice(*get_args(Place)),
    "layer": _COUNT,
    **dict.fromkeys(("rows", "columns", "inner", "times"), size),
    **dict.fromkeys(("reads", "writes", "flops_per_element"), _COUNT),
}
_KV: dict[str, Reader] = {
    "share": per_layer(share),
    "count": per_layer(_COUNT),
    "full_heads": share,
    "hold": flag,
}
_EVICTION: dict[str, Reader] = {"threshold_tokens": _COUNT, "retain": share}
_FILE: dict[str, Reader] = {
    "masking": flag,
    "step": each(_step, "[[step]] tables"),
    "operation": each(_operation, "[[operation]] tables"),
    "unfused": _unfused,
    "kv": _kv,
    "text_eviction": _eviction,
}
