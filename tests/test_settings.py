import re
from fractions import Fraction
from math import inf, nan

import pytest

from avsal.errors import UsageError
from avsal.prediction.settings import MapSize, PredictSettings, expected_maps


@pytest.mark.parametrize("seconds", [nan, inf, -inf, -1.0, 1e308])
@pytest.mark.parametrize("name", ["start", "end"])
def test_times_out_of_reason_are_refused(name, seconds):
    with pytest.raises(UsageError, match=re.escape(f"{name} {seconds}:")):
        PredictSettings(**{name: seconds})


def test_the_end_lies_behind_the_start():
    with pytest.raises(UsageError, match="after start"):
        PredictSettings(start=2.0, end=1.0)


@pytest.mark.parametrize("seconds", ["nan", "inf", "1e308"])
@pytest.mark.parametrize("option", ["--start", "--end"])
def test_on_the_command_line_too(avsal_command, example_clip, option, seconds):
    code, _out, err = avsal_command("predict", example_clip, "-o", "out", option, seconds)
    assert code == 2
    assert "unexpected" not in err


@pytest.mark.parametrize("text", ["99999x99999", "20000x20000", "20000x10", "9000x9000"])
def test_maps_out_of_reason_are_refused(text):
    with pytest.raises(UsageError, match="at most"):
        MapSize.parse(text)


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        (None, None, 100),
        (1.0, None, 75),
        (None, 1.0, 25),
        (1.0, 2.0, 25),
        (1.01, 1.05, 1),
        (None, 0.01, 1),
        (3.0, 9.0, 25),
        (5.0, None, 0),
    ],
)
def test_how_many_maps_a_stretch_gives(start, end, expected):
    assert expected_maps(100, Fraction(25), start, end) == expected


def test_where_headers_tell_little_the_number_of_maps_is_unknown():
    assert expected_maps(None, Fraction(25), None, None) is None
    assert expected_maps(None, Fraction(25), 1.0, None) is None
    assert expected_maps(None, Fraction(25), 1.0, 2.0) == 25
    assert expected_maps(100, None, None, None) == 100
    assert expected_maps(100, None, 1.0, None) is None


def test_a_still_image_has_one_map():
    assert expected_maps(1, None, None, None) == 1
    assert expected_maps(1, None, None, 3.0) == 1
    assert expected_maps(1, None, 1.0, None) == 0
