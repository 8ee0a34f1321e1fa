"""The package against what it said when the golden entries were made."""

from __future__ import annotations

import pytest

from golden import documents
from golden.record import GROUPS, made

# Cases of one test.
BATCH = 20
SHOWN = 6
BATCHES = [
    (group, names[first : first + BATCH])
    for group, (names, _) in GROUPS.items()
    for first in range(0, len(names), BATCH)
]


@pytest.mark.parametrize(("group", "names"), BATCHES, ids=[f"{group}-{names[0]}" for group, names in BATCHES])
def test_nothing_changed(group: str, names: tuple[str, ...]) -> None:
    golden = documents.read(group)
    told = []
    for name in names:
        assert name in golden, f"{group}: {name} has no golden entry"
        places = list(documents.differences(golden[name], made(group, name)))
        if places:
            more = [f"... and {len(places) - SHOWN} more"] if len(places) > SHOWN else []
            told.append("\n    ".join([f"{group}: {name}", *places[:SHOWN], *more]))
    assert not told, "\n" + "\n".join(told)


@pytest.mark.parametrize("group", GROUPS)
def test_every_entry_has_a_case(group: str) -> None:
    assert set(documents.read(group)) == set(GROUPS[group][0])
