"""Random schedules that are valid on a model, and what evaluating them gives."""

from __future__ import annotations

import re
from fractions import Fraction

from hypothesis import strategies as st

from asymsim.catalogue.model import VlmModel
from asymsim.core.model_arrays import Precision
from asymsim.core.times.gpu_arrays import GpuArrays
from asymsim.core.times.parameters import roofline_gpu
from asymsim.core.token_counts import TokenCounts
from asymsim.estimator.model_arrays import model_arrays
from asymsim.estimator.operator_table import OperatorTable, operator_table
from asymsim.estimator.schedule_arrays import schedule_arrays
from asymsim.methods.schedule import KvPolicy, Operation, Recycle, Schedule, Step, TextEviction

BF16 = Precision(16, 16, 16, 1)
GPU = roofline_gpu(1e15, 6e13, 3e12, 4e11, 132)
SHARES = st.one_of(
    st.sampled_from([Fraction(0), Fraction(1, 3), Fraction(1, 2), Fraction(1)]),
    st.fractions(0, 1, max_denominator=50),
)
RECYCLING = st.builds(Recycle, share=SHARES, plus=st.integers(0, 5), divisor=st.integers(1, 4), extra=st.integers(0, 3))


@st.composite
def steps(draw: st.DrawFn, model: VlmModel, stages: tuple[str, ...]) -> Step:
    """One step at a layer that the model has."""
    stage = draw(st.sampled_from(stages))
    tower = model.vision_tower
    stack = tower.layer_pattern if tower and stage != "lm" else model.language_model.layer_pattern
    return Step(
        stage=stage,
        layer=draw(st.integers(0, len(stack) - 1)),
        target="text" if stage == "lm" and draw(st.integers(0, 4)) == 0 else "visual",
        share=draw(SHARES),
        of=draw(st.sampled_from(["original", "present"])),
        rounding=draw(st.sampled_from(["floor", "nearest", "ceil"])),
        plus=draw(st.sampled_from([0, 0, 1, 5, 20, -1, -5])),
        at_least=draw(st.sampled_from([Fraction(0), Fraction(1, 2), Fraction(1)])),
        recycled=draw(st.one_of(st.none(), RECYCLING)),
    )


def stages_of(model: VlmModel, encoder: bool = True) -> tuple[str, ...]:
    """Where tokens can leave; between the blocks only where no windows forbid it."""
    tower = model.vision_tower
    if tower is None:
        return ("lm",)
    whole = encoder and not any(kind.window_tokens for kind in tower.layer_kinds)
    return ("encoder", "encoder_mlp", "encoder_end", "lm") if whole else ("encoder_end", "lm")


@st.composite
def policies(draw: st.DrawFn, model: VlmModel) -> KvPolicy:
    """A cache policy, for all layers or for each."""
    layers = len(model.language_model.layer_pattern)
    length = draw(st.sampled_from([1, layers]))
    return KvPolicy(
        share=tuple(draw(st.lists(SHARES, min_size=length, max_size=length))),
        plus=tuple(draw(st.lists(st.integers(-3, 40), min_size=length, max_size=length))),
        full_heads=draw(st.one_of(st.just(Fraction(0)), SHARES)),
        hold=draw(st.booleans()),
    )


@st.composite
def evictions(draw: st.DrawFn) -> TextEviction:
    """Eviction that sets in before, within or after the output."""
    return TextEviction(threshold_tokens=draw(st.integers(0, 100)), retain=draw(SHARES))


DIMENSIONS = st.lists(
    st.sampled_from(
        "2 sequences visual kept dropped merged pool text tokens remaining kv heads hidden".split()  # noqa: SIM905
    ),
    min_size=1,
    max_size=2,
).flatmap(lambda words: st.sampled_from(["*", "/", "//"]).map(lambda sign: sign.join(words)))


def _kv_once(sizes: tuple[str, str]) -> bool:
    named = [size for size in sizes for word in re.split(r"[*/]+", size) if word == "kv"]
    return len(named) <= 1 and not any("/" in size for size in named)


@st.composite
def operations(draw: st.DrawFn, model: VlmModel) -> Operation:
    """Work that a method adds, at any place."""
    stage = draw(st.sampled_from((*stages_of(model), "kv", "decode")))
    tower = model.vision_tower
    stack = tower.layer_pattern if tower and stage.startswith("encoder") else model.language_model.layer_pattern
    lowest = -1 if stage in ("kv", "decode") else 0
    rows, columns = draw(st.tuples(DIMENSIONS, DIMENSIONS).filter(_kv_once))
    return Operation(
        kind=draw(st.sampled_from(["projection", "gemm", "attention", "elementwise"])),
        stage=stage,
        layer=draw(st.integers(lowest, len(stack) - 1)),
        rows=rows,
        columns=columns,
        inner=draw(st.sampled_from(["1", "hidden", "visual"])),
        times=draw(st.sampled_from(["1", "heads"])),
        writes=draw(st.integers(0, 2)),
    )


@st.composite
def schedules(draw: st.DrawFn, model: VlmModel, encoder: bool = True, added: bool = True) -> Schedule:
    """Any valid schedule; ``added``: with the method's own work and unfused layers."""
    layers = len(model.language_model.layer_pattern)
    unfused = st.lists(st.tuples(st.just("lm"), st.integers(0, layers - 1)), max_size=2).map(tuple)
    return Schedule(
        steps=tuple(draw(st.lists(steps(model, stages_of(model, encoder)), max_size=5))),
        operations=tuple(draw(st.lists(operations(model), max_size=3))) if added else (),
        unfused=draw(unfused) if added else (),
        kv=draw(st.one_of(st.just(KvPolicy()), policies(model))),
        text_eviction=draw(st.one_of(st.none(), evictions())),
        masking=draw(st.integers(0, 9)) == 0,
    )


def table(
    model: VlmModel, schedule: Schedule, load: TokenCounts, precision: Precision = BF16, gpu: GpuArrays = GPU
) -> OperatorTable:
    """One evaluated scenario."""
    return operator_table(model_arrays(model), schedule_arrays(schedule, model), load, precision, gpu)
