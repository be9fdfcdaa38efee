import json
from fractions import Fraction

import cv2
import numpy as np
import pytest

from avsal.errors import MediaError
from avsal.media.frames import FrameTag
from avsal.prediction.saliency import SaliencyFrame
from avsal.prediction.settings import OutputSettings
from avsal.results import formats
from avsal.results.writer import DESCRIPTION, ResultWriter, write_file

HEADER = {"model": "test", "settings": {"format": "png"}}


def saliency_frame(index, peak=1.0, size=(24, 40)):
    """A map whose density at the network's size (32 x 48) has one broad hill."""
    import torch

    from avsal.prediction.postprocess import to_density

    y, x = np.mgrid[:32, :48]
    hill = peak * np.exp(-((x - 10 - index) ** 2 + (y - 16) ** 2) / 60)
    log_density = torch.from_numpy(hill.astype(np.float32))
    log_density -= log_density.logsumexp((0, 1))
    time = Fraction(index, 25)
    tag = FrameTag(index, time, time, Fraction(1, 25), size[1], size[0])
    density = to_density(log_density[None], size)[0].numpy()
    return SaliencyFrame(tag, log_density.numpy(), density)


def write(folder, frames, **output):
    with ResultWriter(folder, HEADER, OutputSettings(**output)) as result:
        for frame in frames:
            result.write(frame)
    return json.loads((folder / DESCRIPTION).read_text())


def read(path):
    return cv2.imread(str(path), cv2.IMREAD_UNCHANGED)


def test_frame_scale_uses_all_levels_in_every_frame(tmp_path):
    frames = [saliency_frame(0), saliency_frame(1, peak=3.0)]
    described = write(tmp_path / "out", frames)
    for index, frame in enumerate(frames):
        gray = read(tmp_path / "out" / f"{index:06d}.png")
        assert gray.dtype == np.uint8
        assert (gray.min(), gray.max()) == (0, 255)
        record = described["frames"][index]
        restored = record["min"] + gray / 255 * (record["max"] - record["min"])
        assert np.abs(restored - frame.density).max() <= (record["max"] - record["min"]) / 500


def test_clip_scale_uses_one_range_for_all_frames(tmp_path):
    frames = [saliency_frame(0), saliency_frame(1, peak=3.0)]
    described = write(tmp_path / "out", frames, scale="clip")
    low = min(frame.density.min() for frame in frames)
    high = max(frame.density.max() for frame in frames)
    assert all(r["min"] == pytest.approx(low) for r in described["frames"])
    assert all(r["max"] == pytest.approx(high) for r in described["frames"])
    for index, frame in enumerate(frames):
        gray = read(tmp_path / "out" / f"{index:06d}.png")
        expected = np.rint((frame.density - low) / (high - low) * 255)
        assert np.abs(gray - expected).max() <= 1
    assert read(tmp_path / "out" / "000000.png").max() < 255


def test_probability_scale_is_the_same_for_every_video(tmp_path):
    frame = saliency_frame(0, peak=2.0)
    described = write(tmp_path / "out", [frame], scale="probability", format="png16")
    gray = read(tmp_path / "out" / "000000.png")
    assert gray.dtype == np.uint16
    top = formats.PROBABILITY_TOP / frame.density.size
    assert (described["frames"][0]["min"], described["frames"][0]["max"]) == (0, top)
    assert np.abs(gray / 65535 * top - frame.density).max() <= top / 65535


def test_npy_holds_densities(tmp_path):
    write(tmp_path / "out", [saliency_frame(3)], format="npy")
    density = np.load(tmp_path / "out" / "000003.npy")
    assert density.dtype == np.float32
    assert density.sum() == pytest.approx(1, abs=1e-4)


def test_the_description_tells_time_peak_and_entropy(tmp_path):
    described = write(tmp_path / "out", [saliency_frame(7, peak=4.0)])
    record = described["frames"][0]
    assert described["model"] == "test"
    assert (record["index"], record["pts"], record["time"]) == (7, "7/25", 0.28)
    x, y = record["peak"]
    assert abs(x - (17.5 * 40 / 48)) <= 1.5
    assert abs(y - 12) <= 1.5
    assert 0 < record["entropy"] < np.log2(32 * 48)


def test_an_even_map_has_the_entropy_of_its_pixels():
    frame = saliency_frame(0, peak=0.0)
    assert frame.entropy == pytest.approx(np.log2(32 * 48), abs=1e-3)
    assert frame.saliency.max() <= 1


def test_nothing_stays_of_an_interrupted_result(tmp_path):
    with (
        pytest.raises(KeyboardInterrupt),
        ResultWriter(tmp_path / "out", HEADER, OutputSettings(scale="clip")) as result,
    ):
        result.write(saliency_frame(0))
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_a_result_replaces_an_earlier_one_whole(tmp_path):
    write(tmp_path / "out", [saliency_frame(i) for i in range(3)])
    write(tmp_path / "out", [saliency_frame(0)])
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["000000.png", DESCRIPTION]
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_an_interrupted_result_leaves_the_earlier_one(tmp_path):
    write(tmp_path / "out", [saliency_frame(i) for i in range(3)])
    with pytest.raises(RuntimeError), ResultWriter(tmp_path / "out", HEADER, OutputSettings()):
        raise RuntimeError
    assert len(list((tmp_path / "out").iterdir())) == 4


def test_a_folder_that_is_no_result_is_left_alone(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("years of work")
    with pytest.raises(MediaError, match="not an earlier result"):
        write(tmp_path / "out", [saliency_frame(0)])
    assert (tmp_path / "out" / "thesis.txt").read_text() == "years of work"


def test_a_file_in_the_way_is_left_alone(tmp_path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(MediaError, match="in the way"):
        write(tmp_path / "out", [saliency_frame(0)])


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path, monkeypatch):
    def no_space(self, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", no_space)
    with pytest.raises(MediaError, match="no space left on device"):
        write(tmp_path / "out", [saliency_frame(i) for i in range(20)])
    assert list(tmp_path.iterdir()) == []


def test_a_read_only_place_is_one_line(tmp_path):
    # A path below a file cannot be made by anyone, root included.
    (tmp_path / "file").write_text("")
    with pytest.raises(MediaError, match="cannot write"):
        write(tmp_path / "file" / "out", [saliency_frame(0)])


def test_levels_of_an_even_map_are_black():
    assert formats.levels(np.full((3, 3), 0.1), 0.1, 0.1, 255).max() == 0


def test_write_file_replaces_in_one_step(tmp_path):
    write_file(tmp_path / "a.bin", b"new")
    assert (tmp_path / "a.bin").read_bytes() == b"new"
    assert [p.name for p in tmp_path.iterdir()] == ["a.bin"]
