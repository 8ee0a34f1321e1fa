"""Renew golden entries: PYTHONPATH=tests python -m golden.renew [group or part of a name ...]; all without any."""

from __future__ import annotations

import sys

from golden import documents
from golden.record import GROUPS, made

SHOWN = 4


def main(chosen: list[str]) -> None:
    for group, (names, _) in GROUPS.items():
        before = documents.read(group)
        entries = {}
        changed = []
        for name in names:
            wanted = not chosen or group in chosen or any(part in name for part in chosen)
            if name in before and not wanted:
                entries[name] = before[name]
                continue
            found = made(group, name)
            places = list(documents.differences(before[name], found)) if name in before else ["new"]
            # What agrees within the tolerance stays as it is written.
            entries[name] = found if places else before[name]
            changed += [(name, places)] if places else []
        gone = [name for name in before if name not in entries]
        if changed or gone:
            documents.write(group, entries)
        print(f"{group}: {len(entries)} entries, {len(changed)} changed, {len(gone)} removed")
        for name, places in changed:
            if places != ["new"]:
                print(f"  {name}: {len(places)} differences", *(f"    {place}" for place in places[:SHOWN]), sep="\n")


if __name__ == "__main__":
    main(sys.argv[1:])
