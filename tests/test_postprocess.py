import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from avsal.prediction.postprocess import blur, interpolate, to_density


@pytest.mark.parametrize("variant", ["mvitv2s-224x384", "s3d-224x224"])
def test_the_published_map_follows_from_the_golden_log_density(parity, variant):
    with np.load(parity / "golden" / f"{variant}.npz") as golden:
        log_density = torch.from_numpy(golden["log_density"])
    density = to_density(log_density, (480, 640))[0].numpy()
    gray = np.rint((density - density.min()) / np.ptp(density) * 255).astype(int)
    expected = cv2.imread(str(parity / "golden" / f"postprocess_{variant}.png"), -1).astype(int)
    assert np.abs(gray - expected).max() <= 1


def test_blur_is_opencv_s():
    maps = np.random.default_rng(0).normal(size=(2, 40, 60)).astype(np.float32)
    expected = [cv2.GaussianBlur(each, (11, 11), 0) for each in maps]
    assert np.abs(blur(torch.from_numpy(maps)).numpy() - expected).max() < 1e-5


@pytest.mark.parametrize("size", [(64, 96), (20, 30), (333, 517)])
def test_both_ways_to_densities_agree(size):
    log_density = torch.randn(2, 64, 96, generator=torch.Generator().manual_seed(2))
    expected = blur(log_density).exp().unsqueeze(1)
    expected = F.interpolate(expected, size=size, mode="bilinear").squeeze(1)
    expected /= expected.sum(dim=(1, 2), keepdim=True)
    torch.testing.assert_close(to_density(log_density, size), expected, rtol=1e-4, atol=0)


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (20, 30), (64, 96), (333, 517)])
def test_densities_of_any_size_sum_to_one(size):
    log_density = torch.randn(3, 64, 96, generator=torch.Generator().manual_seed(0))
    log_density -= log_density.logsumexp(dim=(1, 2), keepdim=True)
    density = to_density(log_density, size)
    assert density.shape == (3, *size)
    assert torch.allclose(density.sum(dim=(1, 2)), torch.ones(3), atol=1e-5)


def test_interpolated_log_densities_are_normalised_and_meet_their_ends():
    before, after = torch.randn(2, 32, 48, generator=torch.Generator().manual_seed(1))
    before, after = before - before.logsumexp((0, 1)), after - after.logsumexp((0, 1))
    middle = interpolate(before, after, 0.5)
    assert abs(float(middle.logsumexp((0, 1)))) < 1e-5
    assert torch.allclose(interpolate(before, after, 0.0), before, atol=1e-5)
    assert torch.allclose(interpolate(before, after, 1.0), after, atol=1e-5)
