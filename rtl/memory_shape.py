"""Shape of a memory that the configuration bus loads."""

from __future__ import annotations

from dataclasses import dataclass

from amaranth.utils import bits_for

__all__ = ["MemoryShape"]


@dataclass(frozen=True, kw_only=True)
class MemoryShape:
    """A memory (or table of registers) that the configuration bus loads: `depth` rows of `width` bits."""

    width: int
    depth: int

    @property
    def row_bits(self) -> int:
        """Address width in bits, at least 1."""
        return max(1, bits_for(self.depth - 1))
