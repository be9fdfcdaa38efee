"""The default network's own parts: skips, priors, recurrence, decoder, listening."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from parity_check import filled

from avsal.models import build
from avsal.models.encoders.mobilenetv2 import MobileNetV2, SkippedMobileNetV2
from avsal.models.network import SaliencyNetwork
from avsal.models.small import (
    CentreBias,
    MotionModulation,
    Prior,
    Recurrence,
    SmallDecoder,
    audio_activity,
    brightness,
    motion_energy,
)
from avsal.prediction.inputs import PADDING

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = "small-224x384"
SIZE = (64, 96)


@pytest.fixture(scope="module")
def network() -> SaliencyNetwork:
    torch.manual_seed(5)
    return filled(SMALL)


def features(count: int = 1) -> tuple[torch.Tensor, ...]:
    torch.manual_seed(6)
    shapes = ((64, 8, 12), (128, 4, 6), (256, 2, 3))
    return tuple(torch.randn(count, 4, *shape) for shape in shapes)


@torch.inference_mode()
def test_skips_are_read_before_they_are_thinned_out() -> None:
    torch.manual_seed(0)
    plain, skipped = MobileNetV2().eval(), SkippedMobileNetV2().eval()
    skipped.load_state_dict(plain.state_dict())
    frames = torch.randn(1, 3, *SIZE)
    stride8, stride16, stride32 = skipped(frames)
    assert stride8.shape == (1, 64, 8, 12)
    assert stride16.shape == (1, 160, 4, 6)
    torch.testing.assert_close(stride32, plain(frames)[1], atol=1e-4, rtol=1e-4)


def test_priors_peak_where_they_say() -> None:
    prior = Prior()
    maps = prior(41, 81)
    assert maps.shape == (16, 41, 81)
    for each, (y, x) in zip(maps[:9], prior.gaussians[:9, :, 0], strict=True):
        row, column = divmod(int(each.argmax()), 81)
        assert abs(row / 40 - y) < 0.02
        assert abs(column / 80 - x) < 0.02


def test_a_share_of_the_map_lies_about_the_middle() -> None:
    habit = CentreBias()
    habit.share.data.fill_(0.0)  # half of it
    corner = torch.full((1, 20, 30), -100.0)
    corner[0, 0, 0] = 0.0
    density = habit(corner).exp()
    assert float(density.sum()) == pytest.approx(1, abs=1e-4)
    assert float(density[0, 0, 0]) == pytest.approx(0.5, abs=0.01)
    row, column = divmod(int(density[0, 1:].argmax()), 30)
    assert row in (8, 9)
    assert column in (14, 15)


@torch.inference_mode()
def test_the_past_is_remembered_and_the_last_change_seen() -> None:
    torch.manual_seed(1)
    motion = Recurrence().eval()
    first = features()
    change, seen, tokens = motion(first)
    assert [each.shape[1:] for each in (change, seen, tokens)] == [
        (32, 1, 4, 6),
        (256, 1, 2, 3),
        (288, 1, 2, 3),
    ]
    older = tuple(each.clone() for each in first)
    older[2][:, 0] += 1  # the oldest frame at stride 32
    assert (motion(older)[1] - seen).abs().max() > 1e-4
    still = tuple(each[:, -1:].expand_as(each) for each in first)
    bias = torch.relu(motion.change[0].bias)[None, :, None, None, None].expand_as(change)
    torch.testing.assert_close(motion(still)[0], bias)


@torch.inference_mode()
def test_cells_are_smoothed_as_repeated_pixels_are() -> None:
    """The kernel of 7x7 cells for each of 8x8 places is one kernel on the enlarged scores."""
    decoder = SmallDecoder(None)
    torch.manual_seed(2)
    line = torch.rand(9)
    weight = torch.zeros(8, 7, 7)
    for place in range(8):
        for tap in range(9):
            weight[place, :, (place + tap - 4) // 8 + 3] += line[tap] / 7
    decoder.smooth.weight.data.zero_()
    decoder.smooth.weight.data.view(8, 8, 7, 7)[:] = weight[None]
    scores = torch.rand(1, 1, 1, 12).expand(1, 1, 6, 12)
    found = decoder.smoothed(scores)[0]
    repeated = F.pad(scores[0, :, :1].repeat_interleave(8, dim=2), (4, 4), mode="replicate")
    expected = F.conv1d(repeated, line[None, None])[0, 0]
    torch.testing.assert_close(found[20], expected, atol=1e-5, rtol=1e-4)


def test_presence_is_the_share_of_columns_with_sound() -> None:
    spectrogram = torch.full((2, 1, 257, 111), PADDING)
    assert audio_activity(spectrogram).tolist() == [0, 0]
    column = torch.randn(257)
    spectrogram[1, 0, :, :37] = ((column - column.mean()) / column.std())[:, None]
    assert audio_activity(spectrogram).tolist() == pytest.approx([0, 1 / 3], abs=1e-4)


@torch.inference_mode()
def test_silence_leaves_the_map_and_sound_moves_it(network: SaliencyNetwork) -> None:
    torch.manual_seed(3)
    clip = torch.randn(1, 3, 4, *SIZE)
    silence, sound = torch.zeros(1, 1, 257, 111), torch.randn(1, 1, 257, 111)
    stacked = network._window_features(clip)
    unheard = network.silent(stacked)
    torch.testing.assert_close(network(clip, silence), unheard, atol=1e-5, rtol=1e-5)
    assert (network(clip, sound) - unheard).abs().max() > 1e-3


@torch.inference_mode()
def test_it_is_a_density_without_sound_too() -> None:
    torch.manual_seed(4)
    network = build(SMALL, audio=False).eval()
    density = network(torch.randn(2, 3, 4, *SIZE))
    assert density.shape == (2, *SIZE)
    torch.testing.assert_close(density.logsumexp((1, 2)), torch.zeros(2), atol=1e-4, rtol=0)


def flickering(at: tuple[int, int], frames: int = 4, levels: float = 60.0) -> torch.Tensor:
    """Brightness (1, T, 1, 28, 48) of a gray picture, one cell of which goes on and off."""
    brightness = torch.full((1, frames, 1, 28, 48), 100.0)
    brightness[:, ::2, :, at[0], at[1]] += levels
    return brightness


@torch.inference_mode()
def moved(brightness: torch.Tensor, gain: float = 1.0, centre: float = 0.0) -> torch.Tensor:
    """The change of the scores (28, 48) by motion."""
    modulation = MotionModulation()
    modulation.gain.fill_(gain)
    modulation.centre.fill_(centre)
    return modulation(brightness)[0, 0]


def panned(levels: float) -> torch.Tensor:
    """Brightness (1, 4, 1, 28, 48) that changes everywhere, by up to `levels`."""
    return torch.rand(1, 4, 1, 28, 48, generator=torch.Generator().manual_seed(0)) * levels


def test_local_motion_draws_the_map():
    change = moved(flickering((6, 40)))
    assert int(change.argmax()) == 6 * 48 + 40
    assert change[6, 40] > 1
    assert change.flatten().sort().values[-2] == 0


def test_a_still_picture_a_moving_camera_and_a_cut_leave_the_map():
    still = flickering((6, 40), levels=0)
    cut = flickering((6, 40), levels=0)
    cut[:, -1] += 100
    assert moved(still, centre=1.0).abs().max() == 0
    assert moved(cut, centre=1.0).abs().max() == 0
    assert moved(panned(55)).abs().max() < 0.01


def test_the_more_a_picture_moves_the_nearer_to_its_centre_is_the_map():
    fast, slow = (moved(panned(levels), gain=0.0, centre=1.0) for levels in (30, 3))
    for change in (fast, slow):
        torch.testing.assert_close(change, change.flip(0))
        torch.testing.assert_close(change, change.flip(1))
        assert (change[:14].diff(dim=0) > 0).all() and (change[:, :24].diff(dim=1) > 0).all()
    assert (fast < slow).all()


def test_only_what_follows_a_cut_counts():
    moving = flickering((6, 40))
    other = flickering((20, 5))
    other[:, 2:] = moving[:, 2:] + 100  # another scene before the last two frames
    alone = moving.clone()
    alone[:, :2] = moving[:, 2:3]
    energy, _mean = motion_energy(other.squeeze(2))
    expected, _mean = motion_energy(alone.squeeze(2))
    assert torch.allclose(energy, expected, atol=1e-3)


def test_motion_is_measured_in_any_shape():
    clip = torch.rand(1, 3, 4, 384, 224, generator=torch.Generator().manual_seed(0))
    assert brightness(clip.transpose(1, 2).flatten(0, 1)).shape == (4, 1, 48, 28)
    log_density = build("small-224x384").eval()(clip, torch.zeros(1, 1, 257, 111))
    assert log_density.shape == (1, 384, 224)
    assert log_density.logsumexp(dim=(1, 2)).abs() < 1e-3
