"""Text of a GPU's file with new fitted sections; all above the sections stays as it is."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from asymsim.catalogue.fitted_parameters import SECTIONS, check_sections
from asymsim.util.errors import InputError

_SECTION = re.compile(r"^\[efficiency\.(\w+)\][^\n]*\n", re.MULTILINE)


def put_sections(path: Path, sections: Mapping[str, Mapping[str, Any]]) -> str:
    """Text of a file with sections added or replaced; all before the first ``[efficiency`` is kept to the byte.

    Raises
    ------
    InputError
        If the file cannot be read, or the catalogue refuses a section.
    """
    try:
        text = path.read_bytes().decode()
    except (OSError, ValueError) as error:
        raise InputError("gpu", str(path), f"cannot be read ({error})") from None
    headings = list(_SECTION.finditer(text))
    head = text[: headings[0].start()] if headings else text.rstrip("\n") + "\n\n"
    ends = [*(heading.start() for heading in headings[1:]), len(text)]
    blocks = {heading[1]: text[heading.start() : end].strip() for heading, end in zip(headings, ends, strict=False)}
    for name, section in sections.items():
        blocks[name] = "\n".join([f"[efficiency.{name}]", *(f"{key} = {_text(section[key])}" for key in section)])
    ordered = sorted(blocks, key=list(SECTIONS).index)
    new_text = head + "\n\n".join(blocks[name] for name in ordered) + "\n"
    check_sections(tomllib.loads(new_text)["efficiency"])
    return new_text


def number_text(value: float) -> str:
    """A float to nine digits: a split or a band may begin exactly at a value, which fewer digits would move."""
    return f"{value:.9g}"


def _text(value: Any) -> str:
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(value, Mapping):
        inside = ", ".join(f"{key} = {_text(item)}" for key, item in value.items())
        return f"{{ {inside} }}" if inside else "{}"
    if np.ndim(value):
        return "[" + ", ".join(_text(item) for item in value) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    return str(int(value)) if isinstance(value, (int, np.integer)) else number_text(value)
