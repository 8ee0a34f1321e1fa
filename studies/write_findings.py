"""Findings of the studies' last runs, copied into docs/studies.md, so that the page quotes real runs alone.

    python studies/write_findings.py

Below each heading that names a study, the block of text becomes out/studies/<name>/findings.txt.
"""

from __future__ import annotations

import re
import sys
import textwrap
from pathlib import Path

from output import ROOT

from asymsim.util.files import write_file

PAGE = ROOT / "docs" / "studies.md"
WIDTH = 118


def filled(page: str, results: Path) -> str:
    """The page with the blocks of all studies that have results; others stay as they are."""

    def block(match: re.Match[str]) -> str:
        path = results / match["name"] / "findings.txt"
        if not path.is_file():
            return match[0]
        lines = path.read_text(encoding="utf-8").splitlines()
        # A number stays with its unit.
        tied = [line.replace(" %", "\u00a0%") for line in lines]
        text = "\n".join(textwrap.fill(line, WIDTH, subsequent_indent="    ", break_on_hyphens=False) for line in tied)
        return f"{match['before']}```text\n{text}\n```".replace("\u00a0", " ")

    return re.sub(r"(?P<before>## `\d\d_(?P<name>\w+)`\n(?:(?!\n## ).)*?)```text\n.*?```", block, page, flags=re.DOTALL)


if __name__ == "__main__":
    write_file(PAGE, filled(PAGE.read_text(encoding="utf-8"), ROOT / "out" / "studies"))
    sys.exit(0)
