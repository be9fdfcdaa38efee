"""Numbers without pictures: `--format csv` and `parquet`, and tables of saved maps."""

from __future__ import annotations

import csv
import json
from fractions import Fraction

import numpy as np
import pytest
import samples
from gaze_maps import save_maps, spot
from media_checks import times_of

from avsal.errors import MediaError
from avsal.prediction.maps import centroid_of, peak_of, spread_of
from avsal.prediction.settings import OutputSettings, PredictSettings
from avsal.results import formats, jobs
from avsal.results.description import DESCRIPTION
from avsal.results.folder import read_result

COLUMNS = "index time duration peak_x peak_y centroid_x centroid_y spread entropy shot".split()


@pytest.fixture
def predict(avsal_command, tiny, tiny_weights, tmp_path):
    """`avsal predict ... -o tmp_path/OUT` with the tiny network."""
    network = ("--model", tiny, "--weights", tiny_weights, "--device", "cpu")

    def run(*arguments, out="out"):
        return avsal_command("predict", "-o", tmp_path / out, *network, *arguments)

    return run


@pytest.fixture
def cut_video(tmp_path):
    """A cut before frame 12 of 24, at 25 frames per second."""
    scenes = [np.full((90, 160, 3), (20, 30, 160), np.uint8), np.zeros((90, 160, 3), np.uint8)]
    scenes[1][..., 0] = np.linspace(90, 250, 160)
    pictures = samples.Pictures([scenes[0]] * 12 + [scenes[1]] * 12)
    return samples.write(tmp_path / "cut.mp4", pictures)


def read_csv(place):
    with place.open(newline="") as file:
        reader = csv.DictReader(file)
        rows = list(reader)
    assert reader.fieldnames == COLUMNS
    return rows


def read_parquet(place):
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    found = parquet.read_table(place)
    assert found.column_names == COLUMNS
    whole = {name for name in COLUMNS if str(found.schema.field(name).type) == "int64"}
    assert whole == {"index", "shot"}
    return found.to_pylist()


# ---- measures


def test_measures_of_maps_that_are_known():
    point = np.zeros((50, 80), np.float32)
    point[7, 30] = 1
    assert peak_of(point) == (30, 7)
    assert centroid_of(point) == (30, 7)
    assert spread_of(point) == pytest.approx(0.5 / 4000)  # half of one pixel
    even = np.full((90, 160), 1 / 14400, np.float32)
    assert centroid_of(even) == pytest.approx((79.5, 44.5))
    assert spread_of(even) == pytest.approx(0.5, abs=1e-4)
    two = np.zeros((10, 10), np.float32)
    two[0, 0], two[9, 9] = 0.25, 0.75
    assert centroid_of(two) == pytest.approx((6.75, 6.75))
    nothing = np.zeros((4, 6), np.float32)
    assert (centroid_of(nothing), spread_of(nothing)) == ((2.5, 1.5), 0.5)


@pytest.mark.parametrize("size", [(36, 64), (90, 160), (360, 640), (700, 300)])
def test_spread_is_the_area_with_half_of_a_gaussian(size):
    """Half of a round Gaussian lies within 1.1774 sigma; sizes of maps make no difference."""
    sigma = 0.08
    density = spot(0.5, 0.5, size, sigma)
    assert spread_of(density) == pytest.approx(np.pi * (1.1774 * sigma) ** 2, rel=0.02)


# ---- predict


@pytest.mark.parametrize(("format", "scale"), [("csv", "clip"), ("parquet", "frame")])
def test_predict_writes_the_table_of_its_maps_and_no_pictures(predict, tmp_path, format, scale):
    if format == "parquet":
        pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    film = samples.film(tmp_path / "film.mp4", seconds=1, rate=10)
    assert predict(film, "--format", format, "--scale", scale)[0] == 0
    folder = tmp_path / "out" / "film"
    assert {path.name for path in folder.iterdir()} == {f"saliency.{format}", DESCRIPTION}
    assert predict(film, "--format", "npy", out="maps")[0] == 0
    again = tmp_path / f"again.{format}"
    assert read_result(tmp_path / "maps" / "film").to_table(again) == 10
    read = read_csv if format == "csv" else read_parquet
    rows = read(folder / f"saliency.{format}")
    assert rows == read(again)
    described = json.loads((folder / DESCRIPTION).read_text())["frames"]
    for index, (row, record) in enumerate(zip(rows, described, strict=True)):
        assert (int(row["index"]), int(row["shot"])) == (index, 0)
        assert (float(row["time"]), float(row["duration"])) == (index / 10, 0.1)
        assert [float(row["peak_x"]), float(row["peak_y"])] == record["peak"]
        assert float(row["entropy"]) == record["entropy"]
    assert predict(film, "--format", format)[0] == 0  # replaces its own result


def test_shots_are_numbered_and_pixels_are_those_of_the_video(predict, cut_video, tmp_path):
    code, out, _err = predict(cut_video, "--format", "csv", "--size", "model", "--end", "0.9")
    assert code == 0
    assert out.endswith(" rows\n")  # there are no maps
    rows = read_csv(tmp_path / "out" / "cut" / "saliency.csv")
    assert [int(row["shot"]) for row in rows] == [0] * 12 + [1] * 11
    assert predict(cut_video, "--format", "npy", out="maps")[0] == 0
    for row, (_record, density) in zip(
        rows, read_result(tmp_path / "maps" / "cut").densities(), strict=False
    ):
        found = float(row["centroid_x"]), float(row["centroid_y"])
        assert density.shape == (90, 160)
        assert found == pytest.approx(centroid_of(density), abs=1)


def test_a_worker_writes_the_same_table(tiny, tiny_weights, cut_video, tmp_path):
    from avsal import load_model

    predictor = load_model(tiny, tiny_weights, "cpu")
    output = OutputSettings("csv")
    job = jobs.MapJob(predictor, PredictSettings(), output)
    job.write(predictor.predict(cut_video), tmp_path / "a")
    (tmp_path / "b").mkdir()
    (stretch,) = job.stretches(cut_video, 5)
    job.predict_stretch(cut_video, stretch, tmp_path / "b", tmp_path / "b")
    jobs.put_together(tmp_path / "b", [stretch])
    one, other = ((tmp_path / x / "saliency.csv").read_bytes() for x in "ab")
    assert one == other


def test_a_still_image_has_one_row(predict, tmp_path):
    image = samples.still(tmp_path / "a.png")
    assert predict(image, "--format", "csv")[0] == 0
    (row,) = read_csv(tmp_path / "out" / "a" / "saliency.csv")
    assert (float(row["time"]), int(row["shot"])) == (0, 0)


def test_numbers_are_no_maps(predict, avsal_command, cut_video, tmp_path):
    assert predict(cut_video, "--format", "csv")[0] == 0
    with pytest.raises(MediaError, match="numbers and no maps"):
        list(read_result(tmp_path / "out" / "cut").densities())
    folder = tmp_path / "out" / "cut"
    out = tmp_path / "tall.mp4"
    code, _out, err = avsal_command("reframe", cut_video, "--saliency", folder, "-o", out)
    assert (code, err.count("\n")) == (1, 1)
    assert "--format png" in err
    assert not out.exists()


# ---- saved maps


@pytest.mark.parametrize(
    ("format", "tolerance"), [("npy", 0.01), ("png16", 0.01), ("png", 0.2), ("video", 1.5)]
)
def test_maps_of_every_format_become_a_table(avsal_command, tmp_path, format, tolerance):
    times = [Fraction(n, 10) for n in (0, 1, 3, 6, 10)]
    video = samples.variable_rate(tmp_path / "vfr.mp4", times)  # 64x48
    maps = save_maps(tmp_path / "maps", video, lambda i: (0.3 + 0.1 * i, 0.4), format=format)
    out = tmp_path / "t.csv"
    assert avsal_command("export", maps, "--to", out) == (0, f"{out}: 5 rows\n", "")
    rows = read_csv(out)
    assert [float(row["time"]) for row in rows] == [float(time) for time in times_of(video)]
    assert [float(row["duration"]) for row in rows[:-1]] == [0.1, 0.2, 0.3, 0.4]
    for index, row in enumerate(rows):
        x, y = float(row["centroid_x"]), float(row["centroid_y"])
        assert x == pytest.approx((0.3 + 0.1 * index) * 64 - 0.5, abs=tolerance + 0.02)
        assert y == pytest.approx(0.4 * 48 - 0.5, abs=tolerance + 0.02)


def test_shots_that_an_earlier_avsal_did_not_write_are_empty(cut_video, tmp_path):
    maps = save_maps(tmp_path / "maps", cut_video, lambda _i: (0.5, 0.5))
    read_result(maps).to_table(tmp_path / "t.csv")
    assert {row["shot"] for row in read_csv(tmp_path / "t.csv")} == {""}
    pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    read_result(maps).to_table(tmp_path / "t.parquet")
    assert {row["shot"] for row in read_parquet(tmp_path / "t.parquet")} == {None}


def test_what_cannot_be_exported_is_one_line(
    avsal_command, predict, cut_video, tmp_path, monkeypatch
):
    maps = save_maps(tmp_path / "maps", cut_video, lambda _i: (0.5, 0.5))
    (maps / "000003.png").unlink()
    (tmp_path / "empty").mkdir()
    before = sorted(tmp_path.iterdir())
    cases = [
        (("export", maps, "--to", tmp_path / "t.csv"), 1, "000003.png"),
        (("export", maps, "--to", tmp_path / "t.fcpxml"), 2, ".parquet"),
        (("export", maps, "--to", tmp_path / "t.csv", "--video", cut_video), 2, "--video"),
        (("export", tmp_path / "empty", "--to", tmp_path / "t.csv"), 1, "saliency.json"),
        (("export", cut_video, "--to", tmp_path / "t.csv"), 1, "reframe"),
    ]
    for arguments, expected, text in cases:
        code, out, err = avsal_command(*arguments)
        assert (code, out, err.count("\n")) == (expected, "", 1), arguments
        assert text in err
    monkeypatch.setattr(formats, "find_spec", lambda _name: None)
    for run in (
        lambda: avsal_command("export", maps, "--to", tmp_path / "t.parquet"),
        lambda: predict(cut_video, "--format", "parquet"),
    ):
        code, _out, err = run()
        assert (code, err.count("\n")) == (2, 1)
        assert "avsal[parquet]" in err
    assert sorted(tmp_path.iterdir()) == before
