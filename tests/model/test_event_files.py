"""Readers of event cameras' files, on files that are written here bit by bit, in every right and wrong form."""

import struct
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmht.model import DataError
from lmht.model.event_files import read_aedat2, read_nmnist

OVERFLOW = bytes.fromhex("00 f0 00 00 00")
HEADER = (
    b"#!AER-DAT2.0\r\n# This is a raw AE data file - do not edit\r\n# Data format is int32 address, int32 timestamp "
    b"(8 bytes total), repeated for each event\r\n# Timestamps tick is 1 us\r\n"
)


def nmnist_event(column, row, polarity, time):
    return struct.pack(">BBI", column, row, polarity << 31 | time << 8)[:5]


def aedat_event(y, x, polarity, time):
    return struct.pack(">Ii", y << 8 | x << 1 | polarity, time)


def as_tuples(events):
    return list(
        zip(
            *(field.tolist() for field in (events.column, events.row, events.polarity, events.time)),
            strict=True,
        )
    )


def error_of(read, path, content):
    """Message of the error, without the folder."""
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        read(path)
    message = str(caught.value)
    assert "\n" not in message
    return message.replace(f"{path.parent}/", "")


def test_nmnist_bits(tmp_path):
    """33, 0; polarity 1; 1 + 2 * 256 + 3 * 65536 µs, and so on: worked out by hand."""
    pytest.importorskip("tonic", reason="tonic is not installed (pip install tonic)")
    path = tmp_path / "a.bin"
    path.write_bytes(bytes.fromhex("21 00 83 02 01  05 1f 03 02 02  00 21 ff ff ff"))
    assert as_tuples(read_nmnist(path)) == [
        (33, 0, 1, 197121),
        (5, 31, 0, 197122),
        (0, 33, 1, 8388607),
    ]


def test_nmnist_time_overflows(tmp_path):
    """From every mark on 8,192 µs are added, whatever the mark's other fields say."""
    pytest.importorskip("tonic", reason="tonic is not installed (pip install tonic)")
    path = tmp_path / "a.bin"
    marks = OVERFLOW, bytes.fromhex("ff f0 ff ff ff")
    events = [nmnist_event(1, 2, 0, 8000), nmnist_event(3, 4, 1, 5), nmnist_event(5, 6, 0, 7)]
    path.write_bytes(events[0] + marks[0] + events[1] + marks[1] + events[2])
    assert as_tuples(read_nmnist(path)) == [(1, 2, 0, 8000), (3, 4, 1, 8197), (5, 6, 0, 16391)]


@given(
    st.lists(
        st.none()
        | st.tuples(st.integers(0, 33), st.integers(0, 33), st.integers(0, 1), st.integers(0, 2**23 - 1)),
        max_size=40,
    ).filter(any)
)
def test_nmnist_round_trip(tmp_path_factory, given_events):
    """None is an overflow mark."""
    pytest.importorskip("tonic", reason="tonic is not installed (pip install tonic)")
    path = tmp_path_factory.getbasetemp() / "round_trip.bin"
    path.write_bytes(b"".join(OVERFLOW if each is None else nmnist_event(*each) for each in given_events))
    expected, later = [], 0
    for each in given_events:
        if each is None:
            later += 8192
        else:
            expected.append((*each[:3], each[3] + later))
    assert as_tuples(read_nmnist(path)) == expected


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            nmnist_event(1, 2, 1, 3) + b"\0\0",
            "a.bin: 7 bytes, expected a multiple of 5; the file is truncated or of another format",
        ),
        (
            nmnist_event(1, 2, 1, 3) + OVERFLOW + nmnist_event(34, 2, 1, 4),
            "a.bin: the event at byte 10 is at column 34, row 2, expected 0 to 33",
        ),
        (nmnist_event(0, 241, 0, 0), "a.bin: the event at byte 0 is at column 0, row 241, expected 0 to 33"),
        (None, "a.bin: cannot be read (No such file or directory)"),
    ],
)
def test_wrong_nmnist_file(tmp_path, content, message):
    assert error_of(read_nmnist, tmp_path / "a.bin", content) == message


@pytest.mark.parametrize("content", [b"", OVERFLOW * 2])
def test_nmnist_file_without_events(tmp_path, content):
    pytest.importorskip("tonic", reason="tonic is not installed (pip install tonic)")
    assert error_of(read_nmnist, tmp_path / "a.bin", content) == "a.bin: no events in it"


def test_nmnist_without_tonic(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tonic.io", None)
    message = error_of(read_nmnist, tmp_path / "a.bin", nmnist_event(1, 2, 1, 3))
    assert message == "n-mnist is read with tonic, which is not installed: pip install tonic"


def test_aedat2_bits(tmp_path):
    """Y = 2, X = 5, polarity 1 and the largest of everything, worked out by hand; the external event is left out."""
    path = tmp_path / "a.aedat"
    events = "0000020b 00000100  00008000 00000101  00007fff 7fffffff  00000000 ffffffff"
    path.write_bytes(HEADER + bytes.fromhex(events))
    assert as_tuples(read_aedat2(path)) == [(125, 122, 1, 256), (0, 0, 1, 2**31 - 1), (127, 127, 0, -1)]


@given(
    st.lists(st.binary(max_size=20).filter(lambda line: b"\n" not in line), max_size=3),
    st.sampled_from([b"\r\n", b"\n"]),
    st.lists(
        st.tuples(
            st.integers(0, 127), st.integers(0, 127), st.integers(0, 1), st.integers(-(2**31), 2**31 - 1)
        ),
        min_size=1,
        max_size=40,
    ),
)
def test_aedat2_round_trip(tmp_path_factory, lines, end, given_events):
    path = tmp_path_factory.getbasetemp() / "round_trip.aedat"
    header = b"".join(b"#" + line + end for line in (b"!AER-DAT2.0", *lines))
    path.write_bytes(header + b"".join(aedat_event(*each) for each in given_events))
    expected = [(127 - y, 127 - x, polarity, time) for y, x, polarity, time in given_events]
    assert as_tuples(read_aedat2(path)) == expected


EVENT = aedat_event(1, 2, 0, 3)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "a.aedat: begins with '', expected '#!AER-DAT2.0'"),
        (
            HEADER.replace(b"2.0", b"3.1") + EVENT,
            "a.aedat: begins with '#!AER-DAT3.1', expected '#!AER-DAT2.0'",
        ),
        (EVENT, r"a.aedat: begins with '\x00\x00\x01\x04\x00\x00\x00\x03', expected '#!AER-DAT2.0'"),
        (
            HEADER[:-2],
            "a.aedat: the header line at byte 148 has no end; the file is truncated",
        ),
        (
            HEADER + EVENT + EVENT[:3],
            "a.aedat: 11 bytes behind the header of 175, expected a multiple of 8; the file is truncated",
        ),
        (
            HEADER + EVENT + struct.pack(">II", 0x10004, 5),
            "a.aedat: the event at byte 183 has address 0x00010004, expected at most 0x0000ffff, the addresses of a "
            "DVS128",
        ),
        (HEADER, "a.aedat: no events in it"),
        (HEADER + struct.pack(">II", 0x8000, 5), "a.aedat: no events in it"),
        (None, "a.aedat: cannot be read (No such file or directory)"),
    ],
)
def test_wrong_aedat2_file(tmp_path, content, message):
    assert error_of(read_aedat2, tmp_path / "a.aedat", content) == message
