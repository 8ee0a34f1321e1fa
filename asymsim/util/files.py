"""Output files appear whole or not at all."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from asymsim.util.errors import InputError


def write_file(path: str | Path, content: str | bytes, field: str = "out") -> None:
    """Write a file aside, then rename it into place; an existing one is replaced, links are followed.

    Parameters
    ----------
    path : str or pathlib.Path
        In a folder that exists. A device or pipe, such as ``/dev/stdout``, is written to directly.
    content : str or bytes
        Text is written as UTF-8.
    field : str
        The field to name in an error.

    Raises
    ------
    InputError
        If it cannot be written; nothing is left behind then.
    """
    data = content.encode() if isinstance(content, str) else content
    try:
        target = Path(path)
        if not str(path) or target.is_dir():
            raise InputError(field, str(path), "is a folder; give a file")
        if target.exists() and not target.is_file():
            target.write_bytes(data)
            return
        target = Path(os.path.realpath(target))
        aside = target.with_name(f".{target.name[:200]}.{os.getpid()}.part")
        try:
            aside.write_bytes(data)
            os.replace(aside, target)
        finally:
            with suppress(OSError):
                aside.unlink()
    except BrokenPipeError:
        raise
    except (OSError, ValueError) as error:
        raise InputError(field, str(path), f"cannot be written ({_reason(error)})") from None


def make_folder(path: str | Path, field: str = "out") -> Path:
    """Make a folder and those above it, where they are missing.

    Raises
    ------
    InputError
        If that is not possible.
    """
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise InputError(field, str(path), "is a file; give a folder") from None
    except (OSError, ValueError) as error:
        raise InputError(field, str(path), f"the folder cannot be made ({_reason(error)})") from None
    return folder


def _reason(error: OSError | ValueError) -> str:
    return str((isinstance(error, OSError) and error.strerror) or error)
