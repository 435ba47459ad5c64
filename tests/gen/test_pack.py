import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmht.gen.pack import pack_rows, unpack_rows


def big_integers(rows):
    return [sum(int(word) << 32 * index for index, word in enumerate(row)) for row in rows]


@given(st.data())
def test_rows_hold_every_field_at_its_place(data):
    rows = data.draw(st.integers(1, 5))
    blocks, expected, offset = [], [0] * rows, 0
    for _ in range(data.draw(st.integers(1, 3))):
        bits, count = data.draw(st.integers(1, 63)), data.draw(st.integers(1, 9))
        signed = data.draw(st.booleans())
        low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
        values = data.draw(
            st.lists(
                st.lists(st.integers(low, high), min_size=count, max_size=count), min_size=rows, max_size=rows
            )
        )
        for row, fields in enumerate(values):
            for lane, value in enumerate(fields):
                expected[row] |= (value & (1 << bits) - 1) << offset + lane * bits
        blocks.append((np.array(values, dtype=np.int64), bits, signed, offset))
        offset += bits * count
    packed = pack_rows(*((values, bits) for values, bits, _, _ in blocks))
    assert packed.shape == (rows, -(-offset // 32))
    assert big_integers(packed) == expected
    for values, bits, signed, start in blocks:
        found = unpack_rows(packed, offset=start, count=values.shape[1], bits=bits, signed=signed)
        np.testing.assert_array_equal(found, values)


@pytest.mark.parametrize("bits", [1, 2, 31, 32, 62, 63, 64])
def test_both_ends_of_a_signed_field(bits):
    ends = np.array([[-(1 << bits - 1), (1 << bits - 1) - 1, -1, 0]], dtype=np.int64)
    found = unpack_rows(pack_rows((ends, bits)), count=4, bits=bits, signed=True)
    np.testing.assert_array_equal(found, ends)


def test_fields_wider_than_an_int64_are_sign_extended():
    packed = pack_rows((np.array([[-3]]), 80))
    assert big_integers(packed) == [(1 << 80) - 3]
    assert unpack_rows(packed, count=1, bits=80, signed=True).tolist() == [[-3]]


def test_many_rows_are_packed_in_parts():
    values = np.arange(40_000 * 128).reshape(-1, 128) % 256
    packed = pack_rows((values, 8))
    assert packed.shape == (40_000, 32)
    np.testing.assert_array_equal(unpack_rows(packed, count=128, bits=8, signed=False), values)


def test_wrong_field():
    with pytest.raises(ValueError, match=r"^field must fit 4 bits, not 0 to 16$"):
        pack_rows((np.array([[0, 16]]), 4))
    with pytest.raises(ValueError, match=r"^field must fit 4 bits, not -9 to 0$"):
        pack_rows((np.array([[0, -9]]), 4))
