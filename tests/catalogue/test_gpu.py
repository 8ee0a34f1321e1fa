"""The GPU catalogue against what is known of the chips apart from the sheets: clocks, rates, pins, lanes."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path
from typing import NamedTuple

import pytest

from asymsim.catalogue import gpu as module
from asymsim.catalogue.gpu import NUMERIC_FIELDS, Gpu, gpu_names, load_gpu
from asymsim.util.errors import AsymsimError, InputError, UnknownNameError

DATA = Path(module.__file__).parent / "data" / "gpus"
NAMES = sorted(path.stem for path in DATA.glob("*.toml"))


class Chip(NamedTuple):
    """What is known of a product apart from its stated peaks; 0 where the maker tells nothing."""

    fp16_flops: int  # a clock and SM, dense, accumulated in fp32
    tensor_mhz: int  # clock of the stated tensor peak; negative: only a bound on it is known
    cores: int
    cores_per_sm: int
    vector_mhz: int  # clock of the stated fp32 peak
    bus_bits: int
    pin_gbit_per_s: float
    sold_gb: int  # in the unit that its sheet calls GB
    links: int  # 0: PCIe
    link_gb_per_s: int


CHIPS = {
    "v100_sxm2_32gb": Chip(1024, 1530, 5120, 64, 1530, 4096, 1.754, 32, 6, 25),
    "t4": Chip(1024, 1590, 2560, 64, 1590, 256, 10.0, 16, 0, 0),
    "a100_40gb_sxm": Chip(2048, 1410, 6912, 64, 1410, 5120, 2.430, 40, 12, 25),
    "a100_80gb_sxm": Chip(2048, 1410, 6912, 64, 1410, 5120, 3.186, 80, 12, 25),
    "a100_80gb_pcie": Chip(2048, 1410, 6912, 64, 1410, 5120, 3.024, 80, 0, 0),
    "a800_80gb_sxm": Chip(2048, 1410, 6912, 64, 1410, 5120, 3.186, 80, 8, 25),
    "a30": Chip(2048, 1440, 3584, 64, 1440, 3072, 2.430, 24, 0, 0),
    "a10": Chip(1024, 1695, 9216, 128, 1695, 384, 12.5, 24, 0, 0),
    "l4": Chip(1024, 2040, 7424, 128, 2040, 192, 12.5, 24, 0, 0),
    "l40s": Chip(1024, 2520, 18176, 128, 2520, 384, 18.0, 48, 0, 0),
    "rtx_4090": Chip(512, 2520, 16384, 128, 2520, 384, 21.0, 24, 0, 0),
    "rtx_pro_6000": Chip(1024, -2617, 24064, 128, 2430, 512, 24.962, 96, 0, 0),
    "h100_sxm": Chip(4096, 1830, 16896, 128, 1980, 5120, 5.238, 80, 18, 25),
    "h100_pcie": Chip(4096, 1620, 14592, 128, 1755, 5120, 3.186, 80, 0, 0),
    "h200_sxm": Chip(4096, 1830, 16896, 128, 1980, 0, 0, 141, 18, 25),
    "h20": Chip(1024, -1980, 0, 128, 0, 0, 0, 96, 18, 25),
    "b200_sxm": Chip(8192, -2100, 0, 128, 0, 7680, 7.992, 180, 18, 50),
    "gb200": Chip(8192, -2100, 0, 128, 0, 0, 0, 186, 18, 50),
    "b300_sxm": Chip(8192, -2100, 0, 128, 0, 0, 0, 288, 18, 50),
    "mi300x": Chip(2048, 2100, 19456, 64, 2100, 8192, 5.2, 192, 7, 64),
}
# Tensor rates as multiples of fp16, by the design of the tensor core; the exceptions are by product.
RATIOS = {"tf32": 0.5, "bf16": 1.0, "fp8": 2.0, "int8": 2.0, "fp4": 4.0}
ODD_RATIOS = {
    # GeForce halves what accumulates in fp32, and leaves int8 whole.
    ("rtx_4090", "int8"): 4.0,
    ("b300_sxm", "int8"): 307 / 2 / 2250,
    # Blackwell Ultra has half as much dense fp4 again as Blackwell.
    ("b300_sxm", "fp4"): 6.0,
}
# A peak that does not exist must not be in the catalogue.
TENSOR_DTYPES = {
    "volta": {"fp16"},
    "turing": {"fp16", "int8"},
    "ampere": {"tf32", "fp16", "bf16", "int8"},
    "ada": {"tf32", "fp16", "bf16", "fp8", "int8"},
    "hopper": {"tf32", "fp16", "bf16", "fp8", "int8"},
    "blackwell": {"tf32", "fp16", "bf16", "fp8", "int8", "fp4"},
    "blackwell_rtx": {"tf32", "fp16", "bf16", "fp8", "int8", "fp4"},
    "cdna3": {"tf32", "fp16", "bf16", "fp8", "int8"},
}

USER_TOML = """\
name = "my_gpu"
vendor = "nobody"
architecture = "hopper"
bandwidth_bytes_per_s = 1e12
capacity_bytes = 1073741824
l2_bytes = 1048576
sm_count = 8
link = "none"
link_bytes_per_s = 1e9
tdp_w = 100
[peak_flops_per_s]
fp32 = 1e12
bf16 = 8e12
[sources]
peak_flops_per_s = "a"
bandwidth_bytes_per_s = "b"
capacity_bytes = "c"
l2_bytes = "d"
sm_count = "e"
link_bytes_per_s = "f"
tdp_w = "g"
"""


@pytest.fixture
def user_toml(tmp_path: Path):
    """Write the user's file with one text replaced and more at its end, and give its path."""

    def write(old: str = "", new: str = "", more: str = "") -> str:
        assert old in USER_TOML
        path = tmp_path / "my.toml"
        path.write_text(USER_TOML.replace(old, new, 1) + more)
        return str(path)

    return write


def test_names_are_the_files():
    assert gpu_names() == NAMES == sorted(CHIPS)
    assert [load_gpu(name).name for name in NAMES] == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_every_number_has_a_source(name):
    table = tomllib.loads((DATA / f"{name}.toml").read_text())
    numbers = {key for key, value in table.items() if isinstance(value, (int, float))} | {"peak_flops_per_s"}
    assert numbers == set(table["sources"])
    assert all(len(source) > 10 for source in table["sources"].values())


@pytest.mark.parametrize(("name", "chip"), CHIPS.items())
def test_fp16_peak_is_dense(name, chip):
    clock_mhz = load_gpu(name).peak_flops_per_s["fp16"] / load_gpu(name).sm_count / chip.fp16_flops / 1e6
    if chip.tensor_mhz > 0:
        assert clock_mhz == pytest.approx(chip.tensor_mhz, rel=0.02)
    else:
        # A sparse figure would imply twice the clock.
        assert 0.8 * -chip.tensor_mhz < clock_mhz <= -chip.tensor_mhz


@pytest.mark.parametrize("name", NAMES)
def test_dtypes_are_those_of_the_architecture(name):
    assert set(load_gpu(name).peak_flops_per_s) - {"fp32"} == TENSOR_DTYPES[load_gpu(name).architecture]


@pytest.mark.parametrize(
    ("name", "dtype"), [(name, dtype) for name in NAMES for dtype in load_gpu(name).peak_flops_per_s if dtype in RATIOS]
)
def test_tensor_rates_keep_the_ratios_of_the_tensor_core(name, dtype):
    peaks = load_gpu(name).peak_flops_per_s
    expected = ODD_RATIOS.get((name, dtype), RATIOS[dtype])
    assert peaks[dtype] / peaks["fp16"] == pytest.approx(expected, rel=0.03)


@pytest.mark.parametrize(("name", "chip"), [item for item in CHIPS.items() if item[1].cores])
def test_sm_count_and_vector_peak(name, chip):
    assert load_gpu(name).sm_count * chip.cores_per_sm == chip.cores
    # CDNA 3 issues two fp32 operations a core and clock.
    flops = 4 if load_gpu(name).vendor == "amd" else 2
    assert load_gpu(name).peak_flops_per_s["fp32"] == pytest.approx(
        flops * chip.cores * chip.vector_mhz * 1e6, rel=0.02
    )


@pytest.mark.parametrize(("name", "chip"), [item for item in CHIPS.items() if item[1].bus_bits])
def test_bandwidth_is_bus_width_times_pin_rate(name, chip):
    expected = chip.bus_bits / 8 * chip.pin_gbit_per_s * 1e9
    assert load_gpu(name).bandwidth_bytes_per_s == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize(("name", "chip"), CHIPS.items())
def test_capacity_is_whole_mebibytes_just_under_the_size_sold(name, chip):
    mebibytes, rest = divmod(load_gpu(name).capacity_bytes, 2**20)
    assert rest == 0
    assert 0.93 <= mebibytes / 1024 / chip.sold_gb <= 1.0


@pytest.mark.parametrize(("name", "chip"), CHIPS.items())
def test_link_is_one_direction(name, chip):
    if chip.links:
        expected = chip.links * chip.link_gb_per_s * 1e9
    else:
        gigatransfers = {"PCIe 3.0 x16": 8, "PCIe 4.0 x16": 16, "PCIe 5.0 x16": 32}[load_gpu(name).link]
        expected = gigatransfers * 1e9 * 16 * 128 / 130 / 8
    assert load_gpu(name).link_bytes_per_s == pytest.approx(expected, rel=0.001)


def test_order_between_relatives():
    assert load_gpu("gb200").peak_flops_per_s["bf16"] > load_gpu("b200_sxm").peak_flops_per_s["bf16"]
    assert load_gpu("h20").bandwidth_bytes_per_s > load_gpu("h100_sxm").bandwidth_bytes_per_s
    assert load_gpu("h200_sxm").peak_flops_per_s == load_gpu("h100_sxm").peak_flops_per_s


@pytest.mark.parametrize(
    ("spoken", "candidates"),
    [
        ("A100", ["a100_40gb_sxm", "a100_80gb_pcie", "a100_80gb_sxm"]),
        ("a100-80gb", ["a100_80gb_pcie", "a100_80gb_sxm"]),
        ("h100", ["h100_pcie", "h100_sxm"]),
    ],
)
def test_ambiguous_name_lists_the_candidates(spoken, candidates):
    with pytest.raises(InputError, match="ambiguous") as caught:
        load_gpu(spoken)
    assert str(caught.value).endswith(": " + ", ".join(candidates))
    assert repr(spoken) in str(caught.value)


@pytest.mark.parametrize(
    ("spoken", "name"),
    [
        ("h200", "h200_sxm"), ("B200", "b200_sxm"), ("b300", "b300_sxm"), ("l40s", "l40s"), ("l4", "l4"),
        ("v100", "v100_sxm2_32gb"), ("NVIDIA H100 80GB HBM3", "h100_sxm"), ("NVIDIA A100-SXM4-80GB", "a100_80gb_sxm"),
        ("H100 PCIe", "h100_pcie"), ("Tesla T4", "t4"), ("AMD Instinct MI300X", "mi300x"),
    ],
)  # fmt: skip
def test_aliases_and_beginnings(spoken, name):
    assert load_gpu(spoken) is load_gpu(name)


def test_no_alias_is_taken_twice():
    names = [name for entry in map(load_gpu, NAMES) for name in (entry.name, *entry.aliases)]
    assert len(names) == len(set(names))


def test_unknown_name_says_what_comes_close():
    with pytest.raises(UnknownNameError, match=r"'h100_smx': did you mean .*h100_sxm"):
        load_gpu("h100_smx")
    # Another GPU, whatever name it ends in.
    with pytest.raises(UnknownNameError, match=r"'GH200': did you mean"):
        load_gpu("GH200")
    with pytest.raises(UnknownNameError, match="known: a10, a100_40gb_sxm"):
        load_gpu("")


def test_users_own_file(user_toml):
    path = user_toml()
    entry = load_gpu(path)
    assert (entry.name, entry.sm_count, entry.price_usd_per_hour) == ("my_gpu", 8, None)
    assert entry.peak_flops_per_s == {"fp32": 1e12, "bf16": 8e12}
    # A page that stays open must see the edit.
    user_toml("sm_count = 8", "sm_count = 9")
    assert load_gpu(path).sm_count == 9


def test_price_needs_a_source(user_toml):
    priced = "tdp_w = 100\nprice_usd_per_hour = 2.5"
    with pytest.raises(InputError, match=r"price_usd_per_hour = 2\.5: has no source"):
        load_gpu(user_toml("tdp_w = 100", priced))
    path = user_toml("tdp_w = 100", priced, more='price_usd_per_hour = "contract"')
    assert load_gpu(path).price_usd_per_hour == 2.5


@pytest.mark.parametrize("key", [key for key in NUMERIC_FIELDS if key != "price_usd_per_hour"])
def test_number_without_source(user_toml, key):
    sources = USER_TOML.split("[sources]\n")[1]
    line = next(line for line in sources.splitlines() if line.startswith(key + " "))
    with pytest.raises(InputError, match="has no source") as caught:
        load_gpu(user_toml(line + "\n", ""))
    assert caught.value.field == key


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("sm_count = 8", "sm_count = 8\nsm_cuont = 8", r"field = 'sm_cuont': did you mean sm_count\?"),
        ("bf16 = 8e12", "bf61 = 8e12", r"peak_flops_per_s = 'bf61': did you mean bf16"),
        ("bf16 = 8e12", "bf16 = -8e12", r"peak_flops_per_s\.bf16 = -8000000000000\.0: must be .* above 0"),
        ("bf16 = 8e12", 'bf16 = "8e12"', r"peak_flops_per_s\.bf16 = '8e12': give a number"),
        ("fp32 = 1e12\n", "", r"peak_flops_per_s = \['bf16'\]: must hold fp32"),
        ("sm_count = 8", "sm_count = -8", r"sm_count = -8: must be a finite number above 0"),
        ("sm_count = 8", "sm_count = 0", r"sm_count = 0: must be a finite number above 0"),
        ("sm_count = 8", "sm_count = 8.5", r"sm_count = 8\.5: give a whole number"),
        ("sm_count = 8", "sm_count = true", r"sm_count = True: give a whole number"),
        ("sm_count = 8", 'sm_count = "8"', r"sm_count = '8': give a whole number"),
        ("sm_count = 8", "sm_count = 1979-05-27", r"sm_count = datetime.*: give a whole number"),
        ("tdp_w = 100", "tdp_w = nan", r"tdp_w = nan: must be a finite number above 0"),
        ("tdp_w = 100", "tdp_w = inf", r"tdp_w = inf: must be a finite number above 0"),
        ("tdp_w = 100\n", "", r"tdp_w = None: is missing"),
        ('name = "my_gpu"', 'name = "My GPU"', r"name = 'My GPU': must be lower snake case"),
        ('name = "my_gpu"', 'name = "my_gpu"\naliases = "x"', r"aliases = 'x': give a list"),
        ('sm_count = "e"', 'sm_count = " "', r"sm_count = 8: has no source"),
        ('sm_count = "e"', "sm_count = 3", r"sources\.sm_count = 3: give a text"),
        ('sm_count = "e"', 'sm_cuont = "e"', r"sources = 'sm_cuont': did you mean sm_count\?"),
        ("sm_count = 8", "sm_count = = 8", r"is no valid TOML: .*line 7"),
        ("sm_count = 8", "sm_count = 8\nsm_count = 9", r"is no valid TOML: Cannot overwrite a value"),
        ("sm_count = 8", "sm_count = " + "[" * 5000, r"is no valid TOML: .*recursion"),
    ],
)
def test_faulty_file_gives_one_line(user_toml, old, new, message):
    path = user_toml(old, new)
    with pytest.raises(InputError, match=message) as caught:
        load_gpu(path)
    assert "\n" not in str(caught.value)
    assert "my.toml" in str(caught.value)


def test_file_that_cannot_be_read(tmp_path):
    (tmp_path / "latin.toml").write_bytes('name = "größe"'.encode("latin-1"))
    (tmp_path / "folder.toml").mkdir()
    for path, message in [
        (tmp_path / "none.toml", "No such file"),
        (tmp_path / "folder.toml", "Is a directory"),
        (tmp_path, "Is a directory"),
        (tmp_path / "latin.toml", "no valid TOML"),
        (tmp_path / "nul\0.toml", "null byte"),
    ]:
        with pytest.raises(AsymsimError, match=message) as caught:
            load_gpu(str(path))
        assert "\n" not in str(caught.value)


def test_gpu_is_frozen_and_hashable():
    entry = load_gpu("t4")
    with pytest.raises(AttributeError):
        entry.sm_count = 41
    assert isinstance(entry, Gpu)
    assert len({entry, load_gpu("tesla_t4"), load_gpu("l4")}) == 2


def test_import_stays_light():
    code = "import sys, asymsim.catalogue.gpu; print(sorted({'numba', 'torch', 'matplotlib'} & set(sys.modules)))"
    root = Path(__file__).parents[2]
    shown = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"
