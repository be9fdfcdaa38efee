"""The fusions of Table 5 by themselves: shapes, what they depend on, independent oracles."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from avsal.models.ablations import (
    STEP,
    ChannelBilinear,
    ConsistentInteraction,
    Interaction,
    SpatialBilinear,
)
from avsal.models.fusion import Fused
from avsal.models.mspi import FUSIONS

pytestmark = pytest.mark.usefixtures("one_thread")

MOTION, AUDIO, DIM = 24, 16, 32
OTHERS = [name for name in FUSIONS if name != "avfb"]


def make(name: str) -> nn.Module:
    torch.manual_seed(0)
    return FUSIONS[name](MOTION, AUDIO, DIM)


def features(
    batch: int = 2, time: int = 4, height: int = 7, width: int = 7, seed: int = 0
) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    v4 = torch.randn(batch, MOTION, time, height, width, generator=generator)
    return v4, torch.randn(batch, AUDIO, 9, 4, generator=generator)


@pytest.mark.parametrize("name", FUSIONS)
@pytest.mark.parametrize("size", [(4, 7, 7), (8, 7, 12), (16, 2, 3), (4, 1, 1)])
def test_the_volume_has_the_size_of_the_motion_features(
    name: str, size: tuple[int, int, int]
) -> None:
    fused: Fused = make(name)(*features(2, *size))
    assert fused.volume.shape == (2, DIM, *size)
    assert fused.visual.shape == fused.audio.shape == (2, DIM)
    assert fused.volume.isfinite().all()


@pytest.mark.parametrize("name", FUSIONS)
def test_audio_of_any_size_and_width_fits(name: str) -> None:
    v4, _ = features()
    assert make(name)(v4, torch.randn(2, AUDIO, 5, 3)).volume.shape == (2, DIM, 4, 7, 7)
    as_wide = FUSIONS[name](MOTION, DIM, DIM)
    assert isinstance(as_wide.aud_proj, nn.Identity)
    assert as_wide(v4, torch.randn(2, DIM, 9, 4)).volume.shape == (2, DIM, 4, 7, 7)


@pytest.mark.parametrize("name", FUSIONS)
def test_both_modalities_change_the_volume(name: str) -> None:
    fusion = make(name)
    v4, audio = features()
    other_v4, other_audio = features(seed=1)
    volume = fusion(v4, audio).volume
    for changed in (fusion(v4, other_audio).volume, fusion(other_v4, audio).volume):
        assert (changed - volume).abs().amax() > 0.01 * volume.std()


@pytest.mark.parametrize("name", FUSIONS)
def test_samples_do_not_meet(name: str) -> None:
    fusion = make(name)
    v4, audio = features()
    together = fusion(v4, audio)
    alone = fusion(v4[1:], audio[1:])
    for both, one in zip(together, alone, strict=True):
        torch.testing.assert_close(both[1:], one, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", FUSIONS)
def test_gradients_reach_both_modalities_and_every_weight(name: str) -> None:
    fusion = make(name)
    v4, audio = (x.requires_grad_() for x in features())
    fusion(v4, audio).volume.square().mean().backward()
    for tensor in (v4, audio, *fusion.parameters()):
        assert tensor.grad is not None
    assert v4.grad.abs().amax() > 0
    assert audio.grad.abs().amax() > 0


@pytest.mark.parametrize("name", OTHERS)
def test_what_the_heads_align_comes_from_its_modality(name: str) -> None:
    fusion = make(name)
    v4, audio = features()
    other_v4, _ = features(seed=1)
    if name != "avim_cpc":  # there, each modality learns of the other
        torch.testing.assert_close(fusion(other_v4, audio).audio, fusion(v4, audio).audio)
    assert not torch.allclose(fusion(other_v4, audio).visual, fusion(v4, audio).visual, atol=1e-3)


@pytest.mark.parametrize("name", ["bilinear_channel", "bilinear_space"])
def test_bilinear_fusions_forget_the_order_of_time(name: str) -> None:
    fusion = make(name)
    v4, audio = features()
    reverse = fusion(v4.flip(2), audio).volume
    torch.testing.assert_close(reverse, fusion(v4, audio).volume, atol=1e-5, rtol=1e-4)


def test_channels_are_multiplied_at_every_pixel() -> None:
    fusion = make("bilinear_channel")
    assert isinstance(fusion, ChannelBilinear)
    v4, audio = features()
    visual, heard = fusion.embed(v4, audio)
    seen = fusion.vis_reduce(visual.view(2, 4, 49, DIM).mean(1))
    sound = fusion.aud_reduce(heard.mean(1, keepdim=True)).expand(-1, 49, -1)
    expected = fusion.bilinear(seen.contiguous(), sound.contiguous()).view(2, 1, 7, 7, DIM)
    volume = fusion(v4, audio).volume.movedim(1, -1)
    torch.testing.assert_close(volume, expected.expand_as(volume), atol=1e-5, rtol=1e-4)


def test_positions_are_multiplied_in_every_channel() -> None:
    fusion = make("bilinear_space")
    assert isinstance(fusion, SpatialBilinear)
    v4, audio = features()
    visual, heard = fusion.embed(v4, audio)
    seen = visual.view(2, 4, 49, DIM).amax(1).mT.contiguous()
    sound = heard.view(2, 9, 4, DIM).mean(1).mT.contiguous()
    expected = fusion.bilinear(seen, sound).view(2, DIM, 4, 7, 7)
    torch.testing.assert_close(fusion(v4, audio).volume, expected, atol=1e-5, rtol=1e-4)


def test_interaction_is_attention_of_vision_to_sound() -> None:
    fusion = make("avim")
    assert isinstance(fusion, Interaction)
    v4, audio = features()
    visual, heard = fusion.embed(v4, audio)
    scores = fusion.query(visual) @ fusion.key(heard).mT / (DIM // 2) ** 0.5
    expected = visual + fusion.answer(scores.softmax(dim=-1) @ fusion.value(heard))
    volume = fusion(v4, audio).volume.flatten(2).mT
    torch.testing.assert_close(volume, expected, atol=1e-5, rtol=1e-4)


@pytest.fixture
def coding() -> ConsistentInteraction:
    fusion = make("avim_cpc")
    assert isinstance(fusion, ConsistentInteraction)
    return fusion


def energy(fusion: ConsistentInteraction, seen: torch.Tensor, sound: torch.Tensor) -> torch.Tensor:
    """Disagreement of every sample: half the squared errors, a mean over the positions."""
    predicted_sound, predicted_seen = fusion.hear(seen), fusion.see(sound)[:, :, None]
    squares = (sound[:, :, None] - predicted_sound).square() + (seen - predicted_seen).square()
    return 0.5 * squares.sum(dim=-1).mean(dim=2).sum(dim=1)


def test_a_step_of_coding_is_gradient_descent(coding: ConsistentInteraction) -> None:
    seen = torch.randn(2, 4, 49, DIM, requires_grad=True)
    sound = torch.randn(2, 4, DIM, requires_grad=True)
    energy(coding, seen, sound).sum().backward()
    new_seen, new_sound = coding.step(seen, sound)
    # The energy is a mean over 49 positions, each of which takes the step of its own share.
    torch.testing.assert_close(new_seen, seen - STEP * 49 * seen.grad, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(new_sound, sound - STEP * sound.grad, atol=1e-5, rtol=1e-4)


def test_coding_makes_the_modalities_more_consistent(coding: ConsistentInteraction) -> None:
    seen, sound = torch.randn(2, 4, 49, DIM), torch.randn(2, 4, DIM)
    course = [energy(coding, seen, sound)]
    for _ in range(3):
        seen, sound = coding.step(seen, sound)
        course.append(energy(coding, seen, sound))
    for before, after in pairwise(course):
        assert (after < before).all()


def test_coding_follows_the_sound_in_time(coding: ConsistentInteraction) -> None:
    v4, audio = features(time=8)
    later = audio.clone()
    later[..., 3] += 1  # the last of four columns of the spectrogram's features
    with torch.no_grad():
        coding.answer.weight.zero_()  # leaves the interaction out
        change = coding(v4, later).volume - coding(v4, audio).volume
    by_time = change.abs().amax(dim=(0, 1, 3, 4))
    assert by_time[7] > 0.01
    assert by_time[:5].amax() < 1e-5


@pytest.mark.parametrize("name", FUSIONS)
def test_half_precision_stays_close(name: str) -> None:
    fusion = make(name)
    v4, audio = features()
    exact = fusion(v4, audio).volume
    with torch.autocast("cpu", torch.bfloat16):
        rough = fusion(v4, audio).volume
    assert F.cosine_similarity(rough.float().flatten(), exact.flatten(), dim=0) > 0.99
