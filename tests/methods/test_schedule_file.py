"""The user's own schedule: what TOML means, and what is refused in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from asymsim.methods.schedule import IDENTITY, Schedule
from asymsim.methods.schedule_file import read_schedule
from asymsim.util.errors import InputError
from oracles.run_schedule import resized, run
from oracles.small_models import CASES, TEXT_TOKENS

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
LLAVA = resized(CASES["cls"], 1152)


def written(folder: Path, text: str | bytes) -> Path:
    path = folder / "schedule.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_empty_file_prunes_nothing(tmp_path: Path) -> None:
    assert read_schedule(written(tmp_path, "")) == IDENTITY == Schedule()


def test_two_stage_example() -> None:
    result = run(read_schedule(EXAMPLES / "two_stage.toml"), LLAVA, images=1, visual_tokens=576)
    assert result.visual == [200] * 16 + [66] * 16
    assert len(result.products(384, 8, 64)) == 1


def test_vision_and_kv_example() -> None:
    result = run(read_schedule(str(EXAMPLES / "vision_and_kv.toml")), LLAVA)
    kept = (576 + TEXT_TOKENS) // 4
    assert result.visual == [576] * 32
    assert result.kv == [kept] * 32
    # 101 tokens of output do not pass 512 text tokens, so the 100 that enter the cache stay.
    assert result.final_kv == [kept + 100] * 32


def test_every_rule_of_a_step(tmp_path: Path) -> None:
    text = """
    step = [
        { stage = "encoder", layer = 2, keep_count = 500 },
        { stage = "encoder_mlp", layer = 3, drop_count = 400, at_least = "1/2" },
        { stage = "lm", layer = 1, keep = 0.5, of = "present", rounding = "ceil" },
        { stage = "lm", layer = 2, target = "text", keep = 0.5 },
        { stage = "lm", layer = 4, keep = 0, recycle = { share = 0.3, plus = 1, divisor = 10, extra = 1 } },
    ]
    """
    result = run(read_schedule(written(tmp_path, text)), LLAVA)
    assert result.tower == [577] * 2 + [501] * 2 + [251] * 20
    assert result.tower_mlp == [577] * 2 + [501] + [251] * 21
    recycled = (int(0.3 * 250) + 1) // 10 + 1
    assert result.visual == [500] + [250] * 3 + [recycled] * 28
    assert result.text == [TEXT_TOKENS] * 2 + [TEXT_TOKENS // 2] * 30


def test_cache_by_layer(tmp_path: Path) -> None:
    counts = list(range(10, 42))
    path = written(tmp_path, f"kv = {{ count = {counts}, hold = true }}")
    result = run(read_schedule(path), LLAVA)
    assert result.kv == result.final_kv == counts


def test_masking_saves_nothing(tmp_path: Path) -> None:
    path = written(tmp_path, 'masking = true\nstep = [{ stage = "lm", layer = 0, keep = 0.1 }]')
    assert run(read_schedule(path), LLAVA).visual == run(IDENTITY, LLAVA).visual


@pytest.mark.parametrize(
    ("text", "named", "remedy"),
    [
        ("stepp = []", "stepp", "did you mean step?"),
        ("step = 3", "step", "list"),
        ("step = [3]", "step 1", "table"),
        ('step = [{ stage = "lm", layer = 1, kepe = 0.1 }]', "kepe", "did you mean keep"),
        ('step = [{ stage = "llm", layer = 1, keep = 0.1 }]', "llm", "did you mean lm?"),
        ("step = [{ stage = 1, layer = 1, keep = 0.1 }]", "stage", "one of encoder"),
        ("step = [{ layer = 1, keep = 0.1 }]", "step 1", "'stage'"),
        ('step = [{ stage = "lm", keep = 0.1 }]', "step 1", "'layer'"),
        ('step = [{ stage = "lm", layer = 1 }]', "step 1", "exactly one"),
        ('step = [{ stage = "lm", layer = 1, keep = 0.1, keep_count = 3 }]', "step 1", "exactly one"),
        ('step = [{ stage = "lm", layer = 1, keep = 1.1 }]', "step 1: keep", "between 0 and 1"),
        ('step = [{ stage = "lm", layer = 1, keep = nan }]', "step 1: keep", "number"),
        ('step = [{ stage = "lm", layer = 1, keep = inf }]', "step 1: keep", "number"),
        ('step = [{ stage = "lm", layer = 1, keep = true }]', "step 1: keep", "number"),
        ('step = [{ stage = "lm", layer = 1, keep = "1/0" }]', "step 1: keep", "number"),
        ('step = [{ stage = "lm", layer = -1, keep = 0.1 }]', "step 1: layer", "whole number"),
        ('step = [{ stage = "lm", layer = 1.0, keep = 0.1 }]', "step 1: layer", "whole number"),
        ('step = [{ stage = "lm", layer = 1, drop_count = 99999999999999999999 }]', "drop_count", "whole number"),
        ('step = [{ stage = "lm", layer = 1, keep_count = 3, of = "present" }]', "step 1: of", "keep alone"),
        ('step = [{ stage = "encoder_end", target = "text", keep = 0.1 }]', "target", "stage"),
        ('step = [{ stage = "lm", layer = 1, keep = 0, recycle = { divisor = 0 } }]', "divisor", "whole number"),
        ('step = [{ stage = "lm", layer = 1, keep = 0, recycle = 3 }]', "recycle", "table"),
        ("unfused = { lm = 3 }", "unfused: lm", "list"),
        ("unfused = { encodr = [3] }", "encodr", "did you mean encoder?"),
        ("kv = { share = 2 }", "kv: share 1", "between 0 and 1"),
        ("kv = { share = [0.1, 2] }", "kv: share 2", "between 0 and 1"),
        ("kv = { count = -1 }", "kv: count 1", "whole number"),
        ("kv = { hold = 1 }", "kv: hold", "true or false"),
        ("text_eviction = { retain = 0.5 }", "text_eviction", "threshold_tokens"),
        ('operation = [{ kind = "gem", stage = "kv" }]', "kind", "did you mean gemm?"),
        ('operation = [{ kind = "gemm", stage = "lm" }]', "operation 1", "'layer'"),
        ('operation = [{ kind = "gemm", stage = "kv", rows = 1.5 }]', "rows", "product"),
        ("masking = 1", "masking", "true or false"),
        ("step = [", "schedule.toml", "TOML"),
        (b"\xff\xfe", "schedule.toml", "UTF-8"),
        ("x = " + "[" * 5000, "schedule.toml", "TOML"),
    ],
)
def test_refusals(tmp_path: Path, text: str | bytes, named: str, remedy: str) -> None:
    with pytest.raises(InputError) as caught:
        read_schedule(written(tmp_path, text))
    message = str(caught.value)
    assert named in message
    assert remedy in message
    assert "\n" not in message


def test_unreadable_paths(tmp_path: Path) -> None:
    for path, reason in ((tmp_path / "none.toml", "no such file"), (tmp_path, "directory"), ("a\0b", "null")):
        with pytest.raises(InputError, match=reason):
            read_schedule(path)


def test_wrong_names_met_at_the_model(tmp_path: Path) -> None:
    path = written(tmp_path, 'operation = [{ kind = "gemm", stage = "kv", rows = "visal" }]')
    with pytest.raises(InputError, match="rows"):
        run(read_schedule(path), LLAVA)
    path = written(tmp_path, 'step = [{ stage = "lm", layer = 32, keep = 0.5 }]')
    with pytest.raises(InputError, match="layers 0 to 31"):
        run(read_schedule(path), LLAVA)
