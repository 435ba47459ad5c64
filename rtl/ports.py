"""Port signatures shared by several components: memory loading and the configuration bus."""

from __future__ import annotations

from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from lmht.rtl.memory_shape import MemoryShape

__all__ = ["BUS_ADDRESS_BITS", "BUS_DATA_BITS", "ConfigBusSignature", "LoadSignature"]

BUS_ADDRESS_BITS = 12
BUS_DATA_BITS = 32


class LoadSignature(wiring.Signature):
    """Write port of one loadable memory, seen from the configuration bus.

    Members: ``enable`` (out, 1: write in this cycle), ``row`` (out), ``data`` (out, one whole row).
    Loading is meant for a design at rest; a row written while frames run takes effect at once.
    """

    def __init__(self, shape: MemoryShape):
        self.shape = shape
        super().__init__({"enable": Out(1), "row": Out(shape.row_bits), "data": Out(shape.width)})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LoadSignature) and self.shape == other.shape


class ConfigBusSignature(wiring.Signature):
    """Register access, seen from the initiator.

    Members: ``valid`` (out), ``write`` (out), ``address`` (out, in words of 32 bits), ``write_data`` (out),
    ``ready`` (in: the access is done in this cycle), ``read_data`` (in: valid with ``ready`` of a read),
    ``error`` (in, valid with ``ready``: no register is there, or it does not allow this access; nothing was
    written, ``read_data`` is 0).
    The initiator holds ``valid``, ``write``, ``address`` and ``write_data`` until ``ready``.
    """

    def __init__(self) -> None:
        super().__init__(
            {
                "valid": Out(1),
                "write": Out(1),
                "address": Out(BUS_ADDRESS_BITS),
                "write_data": Out(BUS_DATA_BITS),
                "ready": In(1),
                "read_data": In(BUS_DATA_BITS),
                "error": In(1),
            }
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ConfigBusSignature)
