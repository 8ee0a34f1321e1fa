"""Whatever the input: exit code 0 or 2, and on 2 one line that says what is wrong, and nothing else."""

from __future__ import annotations

import copy
import json
import math
import random
from pathlib import Path
from typing import Any

import pytest

from asymsim import InputError, Scenario, estimate
from asymsim.cli.app import run

FOLDER = Path(__file__).parents[2] / "asymsim" / "catalogue" / "data" / "models"
CONFIGS = (
    "llava-1.5-7b",
    "qwen2.5-vl-7b",
    "internvl3-1b",
    "llama-3.2-11b-vision",
    "gemma-3-4b-it",
    "phi-3.5-vision",
    "llava-onevision-qwen2-0.5b-ov",
    "qwen3-vl-30b-a3b",
    "llama-4-scout-17b-16e",
    "minicpm-v-2.6",
    "pixtral-12b",
    "smolvlm-256m",
    "paligemma-3b-mix-224",
    "phi-4-multimodal",
)
_DEEP: Any = 1
for _ in range(200):
    _DEEP = [_DEEP]
GARBAGE = (
    None, True, False, -1, 0, 1, 2, 3, 7, 10**6, 10**9, 10**18, 10**30, -(2**63), 0.0, 1.5, -0.5, 1e300, math.nan,
    math.inf, -math.inf, "", "x", "0", "auto", "🦙", "a\nb", [], [1], [0, 0], [None], ["full_attention"], {},
    {"a": {"b": []}}, {"hidden_size": -1}, _DEEP,
)  # fmt: skip


@pytest.fixture
def ask(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run a command line and hold it to the contract; gives the exit code, stdout and the error line."""
    monkeypatch.chdir(tmp_path)

    def asked(*argv: str) -> tuple[int, str, str]:
        before = sorted(tmp_path.rglob("*"))
        code = run(argv)
        out, err = capsys.readouterr()
        context = f"{argv}: {code}\n{err}"
        assert code in (0, 2), context
        assert "Traceback" not in err, context
        if code == 2:
            lines = [line for line in err.splitlines() if line.strip()]
            assert len(lines) == 1, context
            assert lines[0].startswith("error: "), context
            assert len(lines[0]) > len("error: x"), context
            assert out == "", context
            assert sorted(tmp_path.rglob("*")) == before, context
        return code, out, err.strip()

    return asked


def places(node: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every key and index of a nested document."""
    paths = [path] if path else []
    for key in node if isinstance(node, dict) else range(min(3, len(node))) if isinstance(node, list) else ():
        paths += places(node[key], (*path, key))
    return paths


def mutated(config: dict[str, Any], chance: random.Random) -> dict[str, Any]:
    """The config with one to three keys deleted or replaced."""
    result = copy.deepcopy(config)
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        path = chance.choice(places(result) or [("model_type",)])
        parent: Any = result
        for key in path[:-1]:
            parent = parent[key]
        if chance.random() < 0.3:
            del parent[path[-1]]
        else:
            value = copy.deepcopy(chance.choice(GARBAGE))
            old = parent[path[-1]] if not isinstance(parent, dict) or path[-1] in parent else None
            if isinstance(old, int) and chance.random() < 0.3:
                value = chance.choice((-old, old + 1, old * 1000, float(old), str(old), [old]))
            parent[path[-1]] = value
    return result


def check_document(text: str) -> None:
    """An estimate that came out of a strange config is still one: whole counts, no NaN, nothing negative."""
    document = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} in the result"))
    for section in ("flops", "parameters", "kv_cache", "memory", "workload"):
        for name, value in document[section].items():
            assert value >= 0, (section, name, value)
    for name, time in document["latency"].items():
        assert time["p50"] is None or time["p50"] >= 0, (name, time)


@pytest.mark.parametrize("name", CONFIGS)
def test_mutated_configs(name: str, ask: Any, tmp_path: Path) -> None:
    config = json.loads((FOLDER / f"{name}.json").read_text())
    chance = random.Random(name)
    for index in range(40):
        path = tmp_path / f"{index}.json"
        path.write_text(json.dumps(mutated(config, chance)))
        method = chance.choice(("none", "none", "fastv", "asymvlm", "visionzip", "snapkv"))
        code, out, _ = ask("estimate", "--model", str(path), "--method", method, "--format", "json")
        if code == 0:
            check_document(out)


@pytest.mark.parametrize("name", CONFIGS[:4])
def test_truncated_configs(name: str, ask: Any, tmp_path: Path) -> None:
    text = (FOLDER / f"{name}.json").read_text()
    chance = random.Random(name)
    for index in range(10):
        path = tmp_path / f"{index}.json"
        path.write_text(text[: chance.randrange(len(text.rstrip()))])
        code, _, line = ask("estimate", "--model", str(path))
        assert code == 2
        assert "model" in line


@pytest.mark.parametrize(
    "content", ["", "null", "[]", '"x"', "3", "{}", "[" * 100_000, "\ufeff{}", '{"model_type": 3}']
)
def test_files_that_hold_no_config(content: str, ask: Any, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(content)
    assert ask("estimate", "--model", str(tmp_path))[0] == 2
    (tmp_path / "config.json").write_bytes(b"\xff\xfe\x00" + content.encode())
    assert ask("estimate", "--model", str(tmp_path))[0] == 2


NUMBERS = (
    "-1", "0", "1", "2", "3", "1.5", "1e3", "nan", "inf", "-inf", "x", "", " ", "1_000", "0x10", "٣", "9" * 30,
    "1" * 5000, "10000000000", "null", "true", "[1]",
)  # fmt: skip
NAMES = (
    "", " ", "x", "..", "/", "/nonexistent", ".", "\x00", "a" * 300, "none", "fastv+", "+", "fastv+snapkv", "-", "--",
    "fastv+visionzip", "none+none", "h100_sxm", "llava-1.5-7b", "nope.toml", "a/b.json", "🦙", "a\nb", "%s",
)  # fmt: skip
SETTINGS = (
    "layer=2", "layer=", "=2", "layer=99", "layer=-1", "layer=x", "layer=[1]", "layer={a=1}", "x=1", "masking=2",
    "keep=3", "fastv.layer=3", "layer=nan", "layer=1e400", "layer=2020-01-01", "layer=1\nb=2", "layer=[[1]]",
)  # fmt: skip
COUNT_FLAGS = (
    "--num-images", "--image-height", "--image-width", "--visual-tokens", "--text-tokens", "--isl", "--output-tokens",
    "--osl", "--batch-size", "--tp-size", "--keep",
)  # fmt: skip
NAME_FLAGS = ("--model", "--gpu", "--dtype", "--kv-dtype", "--method", "--schedule", "--convention")
FLAGS = {**dict.fromkeys(COUNT_FLAGS, NUMBERS), **dict.fromkeys(NAME_FLAGS, NAMES), "--set": (*NAMES, *SETTINGS)}


@pytest.mark.parametrize("seed", range(10))
def test_random_flags(seed: int, ask: Any) -> None:
    chance = random.Random(seed)
    for _ in range(40):
        argv = ["estimate", "--format", "json"]
        flag_values = {"--model": "llava-1.5-7b", "--method": chance.choice(("none", "fastv", "asymvlm", "snapkv"))}
        for flag in chance.sample(sorted(FLAGS), chance.choice((1, 1, 2, 3))):
            flag_values[flag] = chance.choice(FLAGS[flag])
        for flag, value in flag_values.items():
            argv += [f"{flag}={value}"] if chance.random() < 0.5 else [flag, value]
        code, out, _ = ask(*argv)
        if code == 0:
            check_document(out)


ESTIMATE = ("estimate", "--model", "llava-1.5-7b")
FASTV = (*ESTIMATE, "--method", "fastv")


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (("estimate",), "--model: needs a value"),
        ((*ESTIMATE, "--model"), "--model"),
        ((*ESTIMATE, "--nodel", "x"), "did you mean --model?"),
        ((*ESTIMATE, "stray"), "stray"),
        (("estimat",), "estimate"),
        ((*ESTIMATE, "--batch-size", "x"), "batch_size = 'x': give a whole number"),
        ((*ESTIMATE, "--batch-size", "1.5"), "batch_size = '1.5': give a whole number"),
        ((*ESTIMATE, "--batch-size", "0"), "batch_size = 0"),
        ((*ESTIMATE, "--batch-size", "-3"), "batch_size = -3"),
        ((*ESTIMATE, "--batch-size", "1000000", "--isl", "1000000"), "batch_size"),
        ((*ESTIMATE, "--isl", "0"), "text_tokens = 0"),
        ((*ESTIMATE, "--osl", "-1"), "output_tokens = -1"),
        ((*ESTIMATE, "--osl", "9" * 30), "output_tokens = 9999"),
        ((*ESTIMATE, "--tp-size", "0"), "tp_size = 0"),
        ((*ESTIMATE, "--tp-size", "3"), "tp_size = 3"),
        ((*ESTIMATE, "--num-images", "-1"), "num_images = -1"),
        ((*ESTIMATE, "--image-height", "0", "--image-width", "0"), "image_height = 0"),
        ((*ESTIMATE, "--image-height", "31623", "--image-width", "31623"), "image_height x image_width"),
        ((*ESTIMATE, "--visual-tokens", "-5"), "visual_tokens = -5"),
        ((*ESTIMATE, "--visual-tokens", "5", "--image-width", "9"), "visual_tokens = 5"),
        ((*ESTIMATE, "--dtype", "bf17"), "dtype = 'bf17': did you mean bf16"),
        ((*ESTIMATE, "--kv-dtype", "x"), "kv_dtype = 'x'"),
        ((*ESTIMATE, "--gpu", "h100"), "gpu = 'h100': ambiguous"),
        ((*ESTIMATE, "--gpu", "h1000_sxm"), "did you mean h100_sxm"),
        ((*ESTIMATE, "--gpu", "no/such.toml"), "gpu = 'no/such.toml'"),
        ((*ESTIMATE, "--gpu", "t4"), "dtype = 'bf16'"),
        ((*ESTIMATE, "--convention", "exakt"), "did you mean exact"),
        ((*ESTIMATE, "--keep", "0.5"), "keep = 0.5: name the method"),
        ((*ESTIMATE, "--set", "layer=2"), "settings = {'layer': 2}: name the method"),
        (("compare", "--model", "llava-1.5-7b", "--methods", "fastv", "--set", "fastv.layer=99"), "layer = 99"),
        ((*ESTIMATE, "--set", "layer"), "set = 'layer'"),
        ((*ESTIMATE, "--method", "fastw"), "did you mean fastv"),
        ((*ESTIMATE, "--format", "xml"), "format = 'xml': give one of table, json, csv"),
        ((*ESTIMATE, "--operators=x"), "operators = "),
        ((*ESTIMATE, "--out", "no/such/folder.json"), "out = 'no/such/folder.json'"),
        ((*ESTIMATE, "--out", "."), "out = '.': is a folder"),
        ((*ESTIMATE, "--out", ""), "out = ''"),
        ((*ESTIMATE, "--out", "a\x00b"), "out = "),
        ((*ESTIMATE, "--schedule", "nope.toml"), "schedule = 'nope.toml'"),
        ((*ESTIMATE, "--schedule", "."), "schedule = '.'"),
        (("estimate", "--model", "."), "model = '.'"),
        (("estimate", "--model", "no/such/config.json"), "model = 'no/such/config.json'"),
        (("estimate", "--model", "llava-1.5-7"), "did you mean llava-1.5-7b"),
        (("estimate", "--model", "qwen3-8b", "--num-images", "1"), "num_images = 1"),
        ((*FASTV, "--keep", "1.5"), "keep = 1.5: give a share between 0 and 1"),
        ((*FASTV, "--keep", "-0.1"), "keep = -0.1"),
        ((*FASTV, "--keep", "nan"), "keep = nan"),
        ((*FASTV, "--keep", "half"), "keep = 'half': give a number"),
        ((*FASTV, "--set", "layer=32"), "layer = 32: give a layer from 1 to 31"),
        ((*FASTV, "--set", "layer=two"), "layer = 'two'"),
        ((*FASTV, "--set", "layer=[1, 2]"), "layer"),
        ((*FASTV, "--set", "laier=2"), "did you mean layer"),
        ((*FASTV, "--set", "layer=2", "--set", "layer=3"), "given twice"),
        ((*FASTV, "--schedule", "x.toml"), "schedule = 'x.toml'"),
        (("compare", "--model", "llava-1.5-7b", "--budget", "1.1"), "budget = 1.1"),
        (("compare", "--model", "llava-1.5-7b", "--budget", "nan"), "budget = nan"),
        (("compare", "--model", "llava-1.5-7b", "--methods", ","), "methods = ','"),
        (("compare", "--model", "llava-1.5-7b", "--methods", "fastv,fastw"), "did you mean fastv"),
        (("compare", "--model", "llava-1.5-7b", "--set", "layer=2"), "write it as method.setting"),
        (("compare", "--model", "qwen3-8b"), "no visual tokens"),
        (("savings", "--model", "llava-1.5-7b", "--budgets", "0.5,x"), "budgets = 'x'"),
        (("savings", "--model", "llava-1.5-7b,nope"), "model = 'nope'"),
        (("savings", "--model", "llava-1.5-7b", "--gpu", "h100_sxm,nope"), "gpu = 'nope'"),
        (("list", "modls"), "models"),
    ],
)
def test_known_bad_input(argv: tuple[str, ...], said: str, ask: Any) -> None:
    code, _, line = ask(*argv)
    assert code == 2
    assert said in line


@pytest.mark.parametrize("value", [{"a": 1}, {1}, [[1]], [{}], math.nan, object(), None])
def test_settings_of_a_call_may_be_anything(value: Any) -> None:
    with pytest.raises(InputError, match="layer"):
        estimate(Scenario(model="llava-1.5-7b", method="fastv", settings={"layer": value}))


def test_unknown_key_of_a_schedule(ask: Any, tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text('[[step]]\nstage = "lm"\nlayer = 2\nshair = 0.5\n')
    code, _, line = ask(*ESTIMATE, "--schedule", str(path))
    assert code == 2
    assert "shair" in line or "step" in line


def test_gpu_file_with_a_hole(ask: Any, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('name = "mine"\n')
    code, _, line = ask(*ESTIMATE, "--gpu", str(path))
    assert code == 2
    assert "mine.toml" in line


def test_a_failed_write_leaves_the_old_file(ask: Any, tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    path.write_text("old")
    assert ask(*ESTIMATE, "--keep", "2", "--out", str(path))[0] == 2
    assert path.read_text() == "old"
    assert ask(*ESTIMATE, "--out", str(path))[0] == 0
    assert json.loads(path.read_text())["model"] == "llava-1.5-7b"
    assert [each.name for each in tmp_path.iterdir()] == ["result.json"]


def test_savings_to_a_file_instead_of_a_folder(ask: Any, tmp_path: Path) -> None:
    path = tmp_path / "taken"
    path.write_text("old")
    argv = ("savings", "--model", "llava-1.5-7b", "--method", "fastv", "--budgets", "0.5", "--out", str(path))
    code, _, line = ask(*argv)
    assert code == 2
    assert "is a file; give a folder" in line
