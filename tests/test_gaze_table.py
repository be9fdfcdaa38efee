"""Tables of gaze: what is read as it stands, what is refused, and what is said of the rest."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import samples
from gaze_maps import save_maps
from PIL import Image

import avsal
from avsal.datasets import DatasetSpec, open_dataset
from avsal.datasets.gaze_table import read_table
from avsal.datasets.videos import VideoRecording
from avsal.errors import DataError
from avsal.media import VideoWriter

SIZE = (160, 90)  # (width, height)
SECONDS = 2
HEADER = "time,x,y,observer"
REPRODUCERS = samples.SHARED_REPRODUCERS / "v02" / "gaze"

Row = tuple[float, float, float, str]


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> Path:
    return samples.constant_rate(tmp_path_factory.mktemp("shown") / "small.mp4", 50, 25, SIZE)


def recorded() -> list[Row]:
    """Samples at 60 Hz of three observers who look around the middle."""
    random = np.random.default_rng(5)
    times = np.arange(0, SECONDS, 1 / 60)
    places = np.clip(random.normal((95, 50), (20, 12), (3, len(times), 2)), 2, 88)
    return [
        (float(time), float(x), float(y), f"P{who}")
        for who, own in enumerate(places)
        for time, (x, y) in zip(times, own, strict=True)
    ]


def written(
    path: Path,
    fields: Callable[[Row], tuple[object, ...]],
    header: str = HEADER,
    separator: str = ",",
    encoding: str = "utf-8",
) -> Path:
    lines = [header, *(separator.join(map(str, fields(row))) for row in recorded())]
    path.write_bytes(("\n".join(lines) + "\n").encode(encoding))
    return path


def opened(video: Path, table: Path) -> VideoRecording:
    (recording,) = open_dataset(DatasetSpec(root=video, fixations=table))
    assert isinstance(recording, VideoRecording)
    return recording


def comma(number: float) -> str:
    return str(number).replace(".", ",")


AS_IS = {
    "utf-16": (lambda row: row, HEADER.replace(",", "\t"), "\t", "utf-16"),
    "utf-16 without a mark": (lambda row: row, HEADER, ",", "utf-16-le"),
    "latin-1": (lambda row: (*row[:3], "Jörg" + row[3]), HEADER, ",", "latin-1"),
    "quoted decimal commas": (
        lambda row: (*(f'"{comma(n)}"' for n in row[:3]), row[3]),
        HEADER,
    ),
    "decimal commas": (
        lambda row: (*(comma(n) for n in row[:3]), row[3]),
        HEADER.replace(",", ";"),
        ";",
        "utf-8",
    ),
    "milliseconds that are told": (lambda row: (row[0] * 1000, *row[1:]), "time_ms,x,y,subject"),
    "microseconds that are told": (lambda row: (row[0] * 1e6, *row[1:]), "Time [us],X,Y,Subject"),
    "microseconds with a Greek letter": (
        lambda row: (row[0] * 1e6, *row[1:]),
        "Time [\N{GREEK SMALL LETTER MU}s],X,Y,Subject",
    ),
    "a wearable tracker's names": (
        lambda row: (row[0] * 1e9, *row[1:]),
        "timestamp [ns],gaze x [px],gaze y [px],subject",
    ),
    "whole numbers and decimals": (
        lambda row: (*(comma(n).removesuffix(",0") for n in row[:3]), row[3]),
        HEADER.replace(",", ";"),
        ";",
    ),
    "another program's names": (lambda row: row, "Timestamp [s],Gaze_X,Gaze_Y,Participant ID"),
    "Excel's first line": (lambda row: row, "sep=;\n" + HEADER.replace(",", ";"), ";"),
    "a remark": (lambda row: row, "# exported\n\n" + HEADER),
    "a Windows path": (lambda row: (*row, "C:\\exp\\small.mp4"), HEADER + ",video"),
    "a path of another folder": (lambda row: (*row, "./exp/SMALL.mp4"), HEADER + ",video"),
    "no suffix": (lambda row: (*row, "small"), HEADER + ",video"),
}


@pytest.mark.parametrize("form", AS_IS)
def test_plain_tables_are_read(video, tmp_path, form):
    expected = opened(video, written(tmp_path / "usual.csv", lambda row: row))
    found = opened(video, written(tmp_path / "table.csv", *AS_IS[form]))
    np.testing.assert_allclose(found.rows.times, expected.rows.times, atol=1e-9)
    np.testing.assert_array_equal(found.rows.places, expected.rows.places)
    np.testing.assert_array_equal(found.rows.observers, expected.rows.observers)


@pytest.mark.parametrize(
    "places",
    ["NA,NA", ".,.", "null,null", "-,-", "inf,inf", "None,n/a", ",", "0,0", "-1,-1", "1e8,1e8"],
)
def test_lost_samples_are_no_gaze(video, tmp_path, places, caplog):
    def fields(row: Row) -> tuple[object, ...]:
        return (row[0], places, row[3]) if row[3] == "P2" else row

    recording = opened(video, written(tmp_path / "table.csv", fields))
    rows = len(recorded())
    assert (recording.reading.lost, recording.reading.rows) == (rows // 3, rows)
    assert len(recording.rows) == rows - rows // 3
    assert f"{rows // 3} lost" in caplog.text


REFUSED = {
    "milliseconds": (lambda row: (row[0] * 1000, *row[1:]), HEADER, "milliseconds.*time_ms"),
    "microseconds": (lambda row: (row[0] * 1e6, *row[1:]), HEADER, "microseconds.*time_us"),
    "a clock": (lambda row: (row[0] + 1.7e9, *row[1:]), HEADER, "times of a clock"),
    "a clock's milliseconds": (
        lambda row: ((row[0] + 1.7e9) * 1000, *row[1:]),
        HEADER,
        "milliseconds of a clock",
    ),
    "frame numbers": (lambda row: (int(row[0] * 25), *row[1:]), HEADER, "divide them by 25"),
    "another length": (lambda row: (row[0] + 60, *row[1:]), HEADER, "lasts 2.00 s"),
    "long durations": (lambda row: (*row, 250), HEADER + ",duration", "duration_ms"),
    "durations of samples": (lambda row: (*row, 1), HEADER + ",duration", "duration_ms"),
    "durations of one observer's samples": (
        lambda row: (row[0] / 10, *row[1:3], 1000 / 600),
        "time,x,y,duration",
        "duration_ms",
    ),
    "offsets from the centre": (
        lambda row: (row[0], row[1] / 80 - 1, 1 - row[2] / 45, row[3]),
        HEADER,
        "offsets from the centre",
    ),
    "pixels from the centre": (
        lambda row: (row[0], row[1] - 80, 45 - row[2], row[3]),
        HEADER,
        "offsets from the centre",
    ),
    "a screen's pixels": (
        lambda row: (row[0], row[1] * 12, row[2] * 12, row[3]),
        HEADER,
        "the picture is 160x90.*pixels of the screen",
    ),
    "lost samples alone": (lambda row: (row[0], "nan", "nan", row[3]), HEADER, "all .* lost"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_right_is_refused(evaluate, video, tmp_path, kind):
    fields, header, message = REFUSED[kind]
    table = written(tmp_path / "table.csv", fields, header)
    with pytest.raises(DataError, match=message):
        _ = opened(video, table).reading
    code, err, groups = evaluate(video, "--fixations", table, "--baselines-only")
    assert code == 1
    assert str(table) in err
    assert groups == {}


REFUSED_TEXT = {
    "commas for both": ("time,x,y\n0,5,8,1,4,2\n", r"csv:2: .*6 fields, .* 3 .*semicolons"),
    "two decimal marks": ("time;x;y\n0,5;80.1;40.2\n", "a comma and numbers with a point"),
    "thousands with points": (
        "time_ms;x;y\n.;.;.\n980;80;40\n1.000;80;40\n",
        "1.000 and 980: write numbers without thousands separators, or 980.0 if",
    ),
    "thousands after tabs": (
        "time_ms\tx\ty\n80\t999\t40\n90\t1,010\t40\n",
        "1,010 and 999: write numbers without",
    ),
    "a quotation mark that is not closed": (
        'time,x,y,note\n0,8,4,"\n"\n1,8,4,"left\n2,8,4,right\n',
        "line 4: the text goes on to the end of the file; is a quotation mark not closed",
    ),
    "a quotation mark that takes in a large table": (
        'time,x,y,note\n0,8,4,"left\n' + "1,8,4,right\n" * 20_000,
        "line 2: field larger than .*; is a quotation mark not closed",
    ),
    "thousands": ('time_ms,x,y\n980,80,40\n"1,000",80,40\n', "1,000: write numbers without"),
    "spaces": ("time x y\n0 1 2\n", "commas, semicolons or tabs"),
    "an unfinished first line": ("sep=\ntime,x,y\n0,1,2\n", "missing time, x, y"),
    "a quote between columns": ('sep="\ntime"x"y\n0"1"2\n', "missing time, x, y"),
    "nothing": ("", "missing time, x, y"),
    "a spreadsheet": ("PK\x03\x04\0\0\0\0\x08\0", "is not text"),
}


@pytest.mark.parametrize("kind", REFUSED_TEXT)
def test_what_is_no_table_is_refused(tmp_path, kind):
    text, message = REFUSED_TEXT[kind]
    (tmp_path / "table.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        read_table(tmp_path / "table.csv")


def test_what_was_read_is_told(avsal_command, video, tmp_path, caplog):
    def fields(row: Row) -> tuple[object, ...]:
        return (row[0] + 0.5, *row[1:]) if row[3] == "P1" else row

    table = written(tmp_path / "table.csv", fields)
    code, out, _err = avsal_command(
        *("evaluate", video, "--fixations", table, "--baselines-only", "-o", tmp_path / "out")
    )
    assert code == 0
    told = "table.csv: 360 rows, 3 observers, 0.00 to 2.48 s of 2.00 s; 0 lost, 0 outside"
    assert told in " ".join(out.split())
    assert "30 before the start or after the end" in caplog.text


def test_a_few_odd_rows_are_not_worth_a_warning(video, tmp_path, caplog):
    caplog.set_level(logging.WARNING)
    recording = opened(video, written(tmp_path / "table.csv", lambda row: row))
    assert recording.reading.observers == 3
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("fields", "header", "message"),
    [
        (lambda row: (row[0], row[1] / 1.6, row[2] / 2, row[3]), HEADER, "upper left"),
        (lambda row: (row[0] / 60, *row[1:]), HEADER, "in its first 0.03 of 2.00 s"),
        (lambda row: row, "time,x,y,who", "no column .*observers.*: who"),
    ],
)
def test_what_may_be_wrong_is_told(video, tmp_path, caplog, fields, header, message):
    _ = opened(video, written(tmp_path / "table.csv", fields, header)).reading
    (record,) = caplog.records
    assert re.search(message, record.getMessage())


def test_a_table_of_another_video_is_refused(video, tmp_path):
    table = written(tmp_path / "table.csv", lambda row: (*row, "holiday.mp4"), HEADER + ",video")
    with pytest.raises(DataError, match=r"has gaze for holiday\.mp4, not for small\.mp4"):
        opened(video, table)


def test_a_name_with_the_same_stem_takes_no_rows(video, tmp_path):
    names = {"P0": "small.mp4", "P1": "small.avi", "P2": str(video)}
    table = written(tmp_path / "t.csv", lambda row: (*row, names[row[3]]), HEADER + ",video")
    assert opened(video, table).reading.rows == 2 * len(recorded()) // 3


def test_videos_of_the_same_name_in_two_folders(video, tmp_path):
    names = {"P0": "one/small.mp4", "P1": "C:\\two\\small.mp4", "P2": "two\\small.mp4"}
    table = written(tmp_path / "t.csv", lambda row: (*row, names[row[3]]), HEADER + ",video")
    with pytest.raises(DataError, match="may be the same video"):
        opened(video, table)
    for folder in ("one", "two"):
        (tmp_path / "set" / folder).mkdir(parents=True)
        (tmp_path / "set" / folder / "small.mp4").write_bytes(video.read_bytes())
    one, two = open_dataset(DatasetSpec(root=tmp_path / "set", fixations=table))
    assert (one.name, two.name) == ("one/small.mp4", "two/small.mp4")
    assert [item.reading.rows for item in (one, two)] == [120, 240]


def test_utf_16_that_is_cut_off_is_one_line(tmp_path):
    table = tmp_path / "cut.csv"
    table.write_bytes("time,x,y\n0,1,1\n".encode("utf-16")[:-1])
    with pytest.raises(DataError, match=r"cut.csv.*it is not text in UTF-8 or UTF-16; save it"):
        read_table(table)


def test_pixels_that_are_not_square_are_told(tmp_path, caplog):
    film = tmp_path / "wide.mp4"
    with VideoWriter(film, *SIZE, sample_aspect=Fraction(4, 3)) as writer:
        for index in range(50):
            writer.write(samples.numbered(index, *SIZE), Fraction(index, 25), Fraction(1, 25))
    forms = (
        ("pixels", lambda row: row, 1),
        ("fractions", lambda row: (row[0], row[1] / SIZE[0], row[2] / SIZE[1], row[3]), 0),
    )
    for name, fields, notes in forms:
        caplog.clear()
        _ = opened(film, written(tmp_path / f"{name}.csv", fields)).reading
        assert caplog.text.count("its pixels are not square") == notes
    avsal.measure(
        film, {"a": "0,0,9,9"}, saliency=save_maps(tmp_path / "m", film, lambda _: (0, 0))
    )
    assert f"{SIZE[0]}x{SIZE[1]} as stored, not of" in caplog.text


@pytest.mark.parametrize("per_second", [1, 10**3, 10**6])
def test_times_of_frames_may_be_rounded_to_milliseconds(tmp_path, per_second):
    """A sample at a frame's time belongs to that frame, and a fixation until then does not."""
    name = {1: "time", 10**3: "time_ms", 10**6: "time_us"}[per_second]
    film = samples.constant_rate(tmp_path / "film.mp4", 30, 30, SIZE)
    seconds = [round(index / 30, 3) for index in range(30)]
    rows = [f"{second * per_second:.3f},{index + 1},9,0" for index, second in enumerate(seconds)]
    rows.append(f"{seconds[1] * per_second:.3f},90,9,{seconds[4] - seconds[1]:.3f}")
    table = tmp_path / "table.csv"
    table.write_text("\n".join([f"{name},x,y,duration", *rows]))
    recording = opened(film, table)
    for tag in recording.tags():
        found = sorted(recording.gaze(tag).points.places[:, 0] * SIZE[0])
        fixated = [90] if 1 <= tag.index < 4 else []
        assert found == pytest.approx([tag.index + 1, *fixated])


def test_thirds_of_milliseconds_are_no_thousands(tmp_path):
    """Trackers of 30 and 60 Hz have such durations; many programs omit decimals that are 0."""
    table = tmp_path / "table.csv"
    table.write_text("time,duration_ms,x,y\n0,100,5,5\n1,183.333,5,5\n2,216.667,5,5\n")
    assert read_table(table).numbers[:, 1] == pytest.approx([0.1, 0.183333, 0.216667])


@pytest.mark.parametrize(
    ("header", "row"),
    [
        ("time,duration,x,y", "0.2,0.3,80,45"),
        ("start,end,x,y", "0.2,0.5,80,45"),
        ("start_ms,end [s],x,y", "200,0.5,80,45"),
        ("start_ms,end,x,y", "200,500,80,45"),
        ("onset,duration,end,x,y", "0.2,0.3,9,80,45"),
        (
            "start timestamp [ns],end timestamp [ns],duration [ms],fixation x [px],fixation y [px]",
            "200000000,500000000,300,80,45",
        ),
        ("time,fixation_duration [ms],x,y", "0.2,300,80,45"),
    ],
)
def test_a_fixation_lasts_to_its_end(tmp_path, header, row):
    (tmp_path / "table.csv").write_text(f"{header}\n{row}\n")
    assert read_table(tmp_path / "table.csv").numbers.tolist() == [
        pytest.approx([0.2, 0.3, 80, 45])
    ]


def test_columns_that_are_not_read_are_told(video, tmp_path):
    table = written(tmp_path / "table.csv", lambda row: (*row, 1, 2), HEADER + ",until,")
    assert str(opened(video, table).reading).endswith("the end; columns that are not read: until")
    table = written(tmp_path / "table.csv", lambda row: row)
    assert str(opened(video, table).reading).endswith("before the start or after the end")


def test_all_gaze_on_a_still_counts(tmp_path):
    """It was shown as long as somebody looked."""
    Image.fromarray(samples.numbered(3, *SIZE)).save(tmp_path / "shown.png")
    recording = opened(tmp_path / "shown.png", written(tmp_path / "t.csv", lambda row: row))
    (tag,) = recording.tags()
    assert len(recording.gaze(tag).points) == len(recorded())


RIGHT = ("ref", "dec_comma", "winpath", "miss_ref", "miss_zero")
WRONG = "allnan ms othervideo psychopy_height psychopy_norm screen1080 screen1p5 unix".split()


@pytest.mark.skipif(not REPRODUCERS.is_dir(), reason="needs ../shared/repro/v02/gaze")
def test_the_reproducers():
    found = {}
    for name in RIGHT:
        recording = opened(REPRODUCERS / "small.mp4", REPRODUCERS / f"{name}.csv")
        found[name] = recording.rows
        assert sum(recording.gaze(tag) is not None for tag in recording.tags()) == 25
    for one, other in (("ref", "dec_comma"), ("miss_ref", "miss_zero")):
        np.testing.assert_array_equal(found[one].places, found[other].places)
    for name in WRONG:
        with pytest.raises(DataError):
            _ = opened(REPRODUCERS / "small.mp4", REPRODUCERS / f"{name}.csv").reading
