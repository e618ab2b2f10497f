"""Avro's integers, zigzag and then seven bits a byte (Avro specification, "Binary Encoding")."""

from __future__ import annotations

import struct

FLOAT = struct.Struct("<f")
DOUBLE = struct.Struct("<d")


def varint(number: int) -> bytes:
    """Give the bytes of an int or a long; the caller keeps it within 64 bits."""
    rest = (number << 1) ^ (number >> 63)
    encoded = bytearray()
    while rest > 0x7F:  # noqa: PLR2004 - seven bits
        encoded.append(rest & 0x7F | 0x80)
        rest >>= 7
    encoded.append(rest)
    return bytes(encoded)


TABLE = (
    *(bytes((number << 1,)) for number in range(64)),
    *(bytes((number << 1 & 0x7F | 0x80, number >> 6)) for number in range(64, 8192)),
)
"""The bytes of the smallest numbers, all of one or two bytes: looked up in a fifth of the time."""


MAGNITUDE = tuple((byte & 0x7F) >> 1 for byte in range(256))
"""By a number's first byte, what its bits count for, its sign taken off; the second byte's bits begin at 64."""

NON_NEGATIVE: tuple[int, ...] = tuple(
    None if byte & 1 else MAGNITUDE[byte]  # type: ignore[misc]  # there for whoever reckons with it to fail
    for byte in range(256)
)
"""The same, but None for a negative number: one look-up instead of a shift and a comparison."""


def read_varint(data: bytes, at: int, bits: int) -> tuple[int, int]:
    """Return a number's magnitude, its sign taken off, and where it ends.

    Raises IndexError where no number of so many bits, 32 or 64, ends as Java reads it: in five bytes or in ten.
    """
    number = shift = 0
    while True:
        byte = data[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte <= 0x7F:  # noqa: PLR2004
            if number >> bits:
                raise IndexError(at)
            return number >> 1, at
        shift += 7
        if shift >= bits:
            raise IndexError(at)
