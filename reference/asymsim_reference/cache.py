"""The KV cache of one layer, each KV head on its own, so that heads may keep different entries."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from asymsim_reference.layers import rotate


@dataclass
class LayerCache:
    """Entries of one layer; lists run over the KV heads.

    Attributes
    ----------
    keys, values : list of Tensor (entries, size)
        Keys are stored before rotation, so that positions may be given to them at each step.
    positions : list of Tensor (entries,)
        Original positions, rising: eviction moves no token.
    masked : list of Tensor (entries,) of bool
        Entries that are held but not attended to.
    relative : bool
        Positions count within the cache instead (StreamingLLM).
    """

    keys: list[Tensor]
    values: list[Tensor]
    positions: list[Tensor]
    masked: list[Tensor]
    relative: bool = False

    @classmethod
    def of(cls, keys_hnd: Tensor, values_hnd: Tensor, positions_n: Tensor, masked_n: Tensor) -> LayerCache:
        """The cache of a whole prompt."""
        heads = len(keys_hnd)
        return cls(list(keys_hnd), list(values_hnd), [positions_n] * heads, [masked_n] * heads)

    @property
    def entries(self) -> list[int]:
        """Entries of each head."""
        return [len(keys) for keys in self.keys]

    def append(self, keys_hd: Tensor, values_hd: Tensor, position: int) -> None:
        """Add one generated token to every head."""
        for head in range(len(self.keys)):
            self.keys[head] = torch.cat([self.keys[head], keys_hd[head, None]])
            self.values[head] = torch.cat([self.values[head], values_hd[head, None]])
            self.positions[head] = torch.cat([self.positions[head], torch.tensor([position])])
            self.masked[head] = torch.cat([self.masked[head], torch.tensor([False])])

    def keep(self, head: int, rows: Tensor) -> None:
        """Evict all but these rows of one head."""
        for held in (self.keys, self.values, self.positions, self.masked):
            held[head] = held[head][rows]

    def keep_positions(self, kept: Tensor) -> None:
        """Evict, in every head, all entries but those at these original positions."""
        for head in range(len(self.keys)):
            self.keep(head, torch.isin(self.positions[head], kept).nonzero()[:, 0])

    def rotated_keys(self, head: int) -> Tensor:
        """(entries, size) keys as attended to."""
        where = torch.arange(len(self.keys[head])) if self.relative else self.positions[head]
        return rotate(self.keys[head], where)

    def query_position(self, position: int) -> int:
        """Where the newest token's query stands; its own entry is in the cache already."""
        return len(self.keys[0]) - 1 if self.relative else position
