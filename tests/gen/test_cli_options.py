import pytest

from lmht.gen.cli_options import parse_unroll


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ([], None),
        (["auto"], None),
        (["on"], True),
        (["off"], False),
        (["0:on,3:off"], {0: True, 3: False}),
        (["0:on", "2:on"], {0: True, 2: True}),
    ],
)
def test_unrolled_layers(texts, expected):
    assert parse_unroll(texts) == expected


@pytest.mark.parametrize("text", ["yes", "0", "0:auto", "on,off", "0:on,"])
def test_wrong_unrolled_layers(text):
    with pytest.raises(
        ValueError, match=r"^tap_unroll must be auto, on, off, or LAYER:on or LAYER:off, not "
    ):
        parse_unroll([text])
