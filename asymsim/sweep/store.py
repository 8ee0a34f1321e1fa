"""The folder of a study's results: whole parts under its hash, so that a run can go on where another stopped."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from asymsim.sweep.reductions.partial import States, load_states, merge_states
from asymsim.sweep.study import Study
from asymsim.util.errors import InputError
from asymsim.util.files import make_folder, write_file
from asymsim.util.version import __version__

# pyarrow skips names that begin with an underscore.
STUDY_FILE = "_study.json"
RESULT_FILE = "result.json"
_ENDINGS = {"parquet": "parquet", "csv": "csv", "reduce": "partial"}


class Store:
    """Parts of one study below ``out``; parts of a changed study lie in another folder.

    Raises
    ------
    InputError
        If the folder cannot be made or written to.
    """

    def __init__(self, study: Study, out: str | Path) -> None:
        self._study = study
        self.folder = make_folder(Path(out) / f"{study.name}-{study.hash}")
        about = {"hash": study.hash, "version": __version__, "rows": study.grid.rows, "study": study.document}
        write_file(self.folder / STUDY_FILE, json.dumps(about, indent=2, default=str) + "\n")

    def path(self, part: int) -> Path:
        """The file of a part."""
        return self.folder / f"part-{part:06d}.{_ENDINGS[self._study.format]}"

    @property
    def result_path(self) -> Path:
        """The file of a study's reductions."""
        return self.folder / RESULT_FILE

    def missing(self) -> list[int]:
        """Parts still to be made, in order."""
        if self._study.format == "reduce" and self.result_path.exists():
            return []
        there = set(os.listdir(self.folder))
        return [part for part in range(self._study.parts) if self.path(part).name not in there]

    def write(self, part: int, content: bytes) -> None:
        """Put a part in its place, whole."""
        write_file(self.path(part), content)

    def merged(self) -> States:
        """The states of all parts.

        Raises
        ------
        InputError
            If a part cannot be read.
        """
        states: States = [{} for _ in self._study.reducers]
        for part in range(self._study.parts):
            try:
                states = merge_states(self._study, states, load_states(self.path(part).read_bytes()))
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise InputError(
                    "out", str(self.path(part)), f"is no part of this study ({error}); delete it"
                ) from None
        return states

    def finish(self, result: dict[str, Any] | None) -> None:
        """Write the result, if any, and remove files that were only a step to it."""
        if result is not None:
            write_file(self.result_path, json.dumps(result, indent=1) + "\n")
        leftovers = [path for path in self.folder.glob(".*.part") if not _alive(path)]
        if self._study.format == "reduce":
            leftovers += self.folder.glob(f"part-*.{_ENDINGS['reduce']}")
        for path in leftovers:
            with suppress(OSError):
                path.unlink()

    def result(self) -> dict[str, Any]:
        """The result of a finished study.

        Raises
        ------
        InputError
            If it cannot be read.
        """
        try:
            result: dict[str, Any] = json.loads(self.result_path.read_text())
        except (OSError, ValueError) as error:
            raise InputError("out", str(self.result_path), f"cannot be read ({error}); delete it") from None
        return result


def _alive(aside: Path) -> bool:
    """Whether the process that writes a file aside still runs: its number stands in the name."""
    number = aside.name.split(".")[-2]
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return False
    except (OSError, ValueError):
        return True
    return int(number) != os.getpid()
