"""Full frames that wait for their maps: bounded, whatever a frame takes, and no map changes."""

from __future__ import annotations

import numpy as np
import pytest
import samples

from avsal.media import VideoReader
from avsal.media import video as media_video
from avsal.prediction.model import load_model
from avsal.prediction.settings import PredictSettings
from avsal.results import overlay

FRAME = 200 * 2**20  # bytes: 16K
SETTINGS = PredictSettings(stride=2, batch=12)  # 24 frames in a pass, and as many read ahead
NEEDED = 40  # frames that are read before the first map, however few may be held


@pytest.fixture
def drawn(tiny, tiny_weights, tmp_path, monkeypatch):
    """Frames and maps with a cap in frames, and the most frames that waited."""
    predictor = load_model(tiny, tiny_weights, "cpu", "fp32")
    film = samples.film(tmp_path / "film.mp4", seconds=8, rate=10)
    waited = []
    real = VideoReader.pop_frame

    def pop_frame(video, index):
        waited.append(len(video._buffer))
        return real(video, index)

    def run(cap):
        waited.clear()
        monkeypatch.setattr(media_video, "BUFFER_BYTES", cap * FRAME)
        with VideoReader(film) as video:
            pairs = overlay.predicted(predictor, video, SETTINGS)
            found = [(frame.index, frame.image.copy(), density) for frame, density in pairs]
        return found, max(waited)

    monkeypatch.setattr(VideoReader, "pop_frame", pop_frame)
    monkeypatch.setattr(VideoReader, "frame_bytes", FRAME)
    return run


@pytest.mark.slow
@pytest.mark.timeout(300)  # a thread that waits for a place that never comes free
def test_a_cap_bounds_the_frames_and_changes_no_map(drawn):
    expected, most = drawn(1000)
    assert most > NEEDED + 24
    for cap in (0, 3, 47):
        found, most = drawn(cap)
        assert most <= NEEDED + cap
        assert len(found) == 80
        for (index, image, density), (one, picture, map_) in zip(found, expected, strict=True):
            assert index == one
            assert np.array_equal(image, picture)
            np.testing.assert_allclose(density, map_, rtol=1e-4)  # batches round differently
