"""What the firmware says, read back."""

import pytest

from lmht.sim.soc_report import SocError, SocImage, SocReport

TITLE = "lmht: digits"
FIRST = "image 0: class 3, logits -12 5, cycles: send 10 wait 20 fetch 30 core 40, by polling"


def test_every_line_is_read():
    report = SocReport.read(
        [
            TITLE,
            "loaded 1200 bytes in 34567 cycles",
            FIRST,
            FIRST.replace("image 0: class 3,", "image 1: class 0 flagged,").replace("polling", "interrupt"),
            "register 0: 1280133204",
        ]
    )
    assert (report.loaded_bytes, report.load_cycles) == (1200, 34567)
    assert report.registers == {0: 0x4C4D4854}
    first, second = report.images
    assert first == SocImage(
        winner=3, flagged=False, logits=(-12, 5), send=10, wait=20, fetch=30, core=40, way="polling"
    )
    assert first.total == 60
    assert (second.winner, second.flagged, second.way) == (0, True, "interrupt")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("error: lmht_probe returned LMHT_ERR_BUS", "the firmware says: lmht_probe returned LMHT_ERR_BUS"),
        (FIRST.replace("image 0", "image 1"), "image 0 is missing: "),
        (FIRST[:-5], "not a line of the firmware: "),
        ("register 5: -1", "not a line of the firmware: 'register 5: -1'"),
    ],
    ids=["error", "gap", "cut short", "negative"],
)
def test_other_lines_are_refused(line, message):
    with pytest.raises(SocError) as refused:
        SocReport.read([TITLE, line])
    assert str(refused.value).startswith(message)
