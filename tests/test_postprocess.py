import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from avsal.prediction.maps import interpolate, renormalised, to_density


def log_densities(count, height, width):
    values = np.random.default_rng(1).normal(size=(count, height, width)).astype(np.float32)
    return [renormalised(each) for each in values]


@pytest.mark.parametrize("variant", ["mvitv2s-224x384", "s3d-224x224"])
def test_the_published_map_follows_from_the_golden_log_density(parity, variant):
    with np.load(parity / "golden" / f"{variant}.npz") as golden:
        log_density = golden["log_density"][0]
    density = to_density(log_density, (480, 640))
    gray = np.rint((density - density.min()) / np.ptp(density) * 255).astype(int)
    expected = cv2.imread(str(parity / "golden" / f"postprocess_{variant}.png"), -1).astype(int)
    assert np.abs(gray - expected).max() <= 1


@pytest.mark.parametrize("size", [(64, 96), (20, 30), (333, 517)])
def test_densities_are_blurred_exponentiated_and_resized_in_this_order(size):
    """Against the same steps by PyTorch."""
    (log_density,) = log_densities(1, 64, 96)
    offsets = torch.arange(11, dtype=torch.float64) - 5
    kernel = torch.exp(-(offsets**2) / (2 * 2.0**2))
    kernel = (kernel / kernel.sum()).float()
    padded = F.pad(torch.from_numpy(log_density)[None, None], (5, 5, 5, 5), mode="reflect")
    blurred = F.conv2d(F.conv2d(padded, kernel.view(1, 1, 1, -1)), kernel.view(1, 1, -1, 1))
    expected = F.interpolate(blurred.exp(), size=size, mode="bilinear")[0, 0]
    expected /= expected.sum()
    np.testing.assert_allclose(to_density(log_density, size), expected.numpy(), rtol=1e-4)


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (20, 30), (64, 96), (333, 517)])
def test_densities_of_any_size_sum_to_one(size):
    for log_density in log_densities(3, 64, 96):
        density = to_density(log_density, size)
        assert density.shape == size
        assert density.sum(dtype=np.float64) == pytest.approx(1, abs=1e-5)


def test_interpolated_log_densities_are_normalised_and_meet_their_ends():
    before, after = log_densities(2, 32, 48)
    middle = interpolate(before, after, 0.5)
    assert np.exp(middle.astype(np.float64)).sum() == pytest.approx(1, abs=1e-5)
    assert np.allclose(interpolate(before, after, 0.0), before, atol=1e-5)
    assert np.allclose(interpolate(before, after, 1.0), after, atol=1e-5)
