"""Spectral residual and fitted prior against independent computations."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
from evaluation_oracle import KEYS, annotated_frames, independent_scores, one_line, per_recording
from PIL import Image
from scipy import fft, ndimage

from avsal.evaluation.protocol import SmallPictures, shrink, spectral_residual
from avsal.media import VideoFrame

METRICS = {"cc", "sim", "nss", "auc_judd", "sauc", "kl", "ig"}
FITTED = "centre prior (fitted)"


def residual_by_words(gray: np.ndarray) -> np.ndarray:
    """Hou and Zhang's equations, with scipy."""
    spectrum = fft.fft2(gray)
    amplitude, phase = np.abs(spectrum), np.arctan2(spectrum.imag, spectrum.real)
    log_spectrum = np.log(amplitude + 1e-6)
    residual = log_spectrum - ndimage.uniform_filter(log_spectrum, 3, mode="nearest")
    real, imaginary = np.exp(residual) * np.cos(phase), np.exp(residual) * np.sin(phase)
    back = fft.ifft2(real + 1j * imaginary)
    return ndimage.gaussian_filter(back.real**2 + back.imag**2, 2.5, mode="constant", truncate=4)


def residual_of_file(path) -> np.ndarray:
    with Image.open(path) as picture:
        gray = picture.convert("RGB").convert("F")
    height = round(gray.height * 64 / gray.width)
    return residual_by_words(np.asarray(gray.resize((64, height), Image.Resampling.BOX)) / 255)


# ---- spectral residual


@pytest.mark.parametrize("size", [(48, 64), (85, 64), (1, 64)])
def test_spectral_residual_by_its_words(size):
    intensity = np.random.default_rng(2).random(size)
    expected = residual_by_words(intensity)
    np.testing.assert_allclose(spectral_residual(intensity), expected, rtol=1e-6)


@pytest.mark.parametrize("odd", [(1, 4), (3, 1), (2, 6)])
def test_the_odd_item_stands_out(odd):
    """A field of upright bars, none quite in line, with one that lies."""
    random = np.random.default_rng(1)
    picture = np.full((240, 320, 3), 128, np.uint8)
    for row in range(6):
        for column in range(8):
            half = (4, 14) if (row, column) == odd else (14, 4)
            y, x = (20, 20) + 40 * np.array([row, column]) + random.integers(-4, 5, 2)
            picture[y - half[0] : y + half[0], x - half[1] : x + half[1]] = 230
    saliency = spectral_residual(shrink(picture))
    assert saliency.shape == (48, 64)
    y, x = np.unravel_index(saliency.argmax(), saliency.shape)
    assert (y // 8, x // 8) == odd


@pytest.mark.parametrize("size", [(30, 20), (900, 300), (7, 2000)])
def test_pictures_of_any_shape(size):
    for value in (0, 255):  # nothing stands out of one colour
        saliency = spectral_residual(shrink(np.full((*size, 3), value, np.uint8)))
        assert saliency.shape == (max(1, round(size[0] * 64 / size[1])), 64)
        assert np.isfinite(saliency).all()


def test_frames_are_found_by_their_number():
    frames = [
        VideoFrame(index, index, 1, np.full((48, 64, 3), index, np.uint8)) for index in range(6)
    ]
    pictures = SmallPictures(frames)
    assert list(pictures) == frames  # they pass unchanged
    for index in (0, 1, 4):
        assert pictures.take(index) == pytest.approx(np.full((48, 64), index / 255))
    assert pictures.take(4) is None  # and are held until they are taken
    assert pictures.take(6) is None


def test_spectral_residual_of_a_video(evaluate, tree, tmp_path):
    evaluate("--data", tree, "--database", "SumMe", "--fold", 1, "--baselines-only")
    files = sorted((tree / "video_frames" / "SumMe" / "clip_2").iterdir())
    maps = [residual_of_file(path) for path in files]
    expected = independent_scores(tree, "SumMe", "clip_2", maps.__getitem__)
    found = per_recording(tmp_path / "out", "spectral residual")["clip_2"]
    for key in KEYS:
        assert found[key] == pytest.approx(expected[key], rel=0.02), key


def test_gaze_without_pictures_has_no_spectral_residual(evaluate, tree, image_set, tmp_path):
    maps = tmp_path / "made"
    maps.mkdir()
    for index in range(18):
        np.save(maps / f"{index + 1:03d}.npy", np.eye(48, 64))
    (image_set / "images").rename(tmp_path / "elsewhere")
    for index in range(4):
        np.save(maps / f"p{index}.npy", np.eye(48, 64))
    for folder in (tree / "annotations" / "SumMe" / "clip_0", image_set):
        code, err, groups = evaluate("--predictions", maps, "--annotations", folder)
        assert (code, err) == (0, "")
        (group,) = groups.values()
        assert "centre Gaussian" in group["mean"]
        assert "spectral residual" not in group["mean"]


# ---- the fitted prior


def gaze_map(image_set, index: int) -> np.ndarray:
    """Sum of Gaussians of 3.5 % of the longer side around a picture's fixations, (60, 80)."""
    rows = np.load(image_set / "fixations.npz")["fix"].astype(float)
    y, x = np.mgrid[:60, :80] + 0.5
    spots = rows[rows[:, 0] == index][:, 2:4] * (80, 60)
    total = sum(np.exp(-((x - a) ** 2 + (y - b) ** 2) / (2 * 2.8**2)) for a, b in spots)
    return total / total.sum()


@pytest.fixture
def split(tmp_path):
    path = tmp_path / "names.txt"
    path.write_text("p1.jpg\np3\n")
    return path


def test_the_prior_is_fitted_to_what_the_split_leaves_out(evaluate, image_set, split, tmp_path):
    arguments = ("--images", image_set, "--split", split, "--baselines-only")
    code, err, groups = evaluate(*arguments, "--fit-prior")
    assert (code, err) == (0, "")
    assert groups["photographs"]["recordings"] == 2
    found = per_recording(tmp_path / "out", FITTED)
    assert set(found) == {"p1.jpg", "p3.jpg"}
    prior = (gaze_map(image_set, 0) + gaze_map(image_set, 2)) / 2
    for index in (1, 3):
        expected = np.corrcoef(prior.ravel(), gaze_map(image_set, index).ravel())[0, 1]
        assert found[f"p{index}.jpg"]["cc"] == pytest.approx(expected, abs=0.01)


def test_the_prior_of_a_fold_is_that_of_its_training_videos(evaluate, tree, tmp_path):
    arguments = ("--data", tree, "--database", "SumMe", "--baselines-only", "--fit-prior")
    assert evaluate(*arguments, "--fold", 2)[0] == 0
    lists = tree / "fold_lists"
    train, test = (
        [line.split()[0] for line in (lists / name).read_text().splitlines()]
        for name in ("SumMe_list_train_2_fps.txt", "SumMe_list_test_2_fps.txt")
    )
    means = []
    for name in train:
        maps = [
            density / density.sum() for _i, density, _f in annotated_frames(tree, "SumMe", name)
        ]
        means.append(np.mean(maps, axis=0))
    found = per_recording(tmp_path / "out", FITTED)
    assert set(found) == set(test)
    expected = independent_scores(tree, "SumMe", test[0], lambda _index: np.mean(means, axis=0))
    for key in ("cc", "nss", "auc_judd", "kl"):  # it is averaged on a grid, hence not exact
        assert found[test[0]][key] == pytest.approx(expected[key], rel=0.02), key


def test_results_with_another_prior_are_not_kept(evaluate, image_set, split, monkeypatch):
    from avsal.evaluation import run

    scored = []
    original = run.score_recordings

    def watched(recordings, *rest):
        scored.append(len(recordings))
        return original(recordings, *rest)

    monkeypatch.setattr(run, "score_recordings", watched)
    plain = ("--images", image_set, "--split", split, "--baselines-only")
    assert FITTED not in evaluate(*plain)[2]["photographs"]["mean"]
    _code, _err, first = evaluate(*plain, "--fit-prior")
    assert evaluate(*plain, "--fit-prior")[2] == first
    assert scored == [2, 2]
    with np.load(image_set / "fixations.npz") as table:
        arrays = dict(table)
    arrays["fix"][arrays["fix"][:, 0] == 2, 2] *= 0.5  # a picture that is not scored
    np.savez(image_set / "fixations.npz", **arrays)
    _code, _err, second = evaluate(*plain, "--fit-prior")
    assert scored == [2, 2, 2]
    means = [groups["photographs"]["mean"] for groups in (first, second)]
    assert means[0][FITTED]["nss"] != means[1][FITTED]["nss"]
    assert means[0]["centre Gaussian"] == means[1]["centre Gaussian"]


def test_a_split_that_names_everything_leaves_nothing_to_fit_to(evaluate, image_set, split):
    split.write_text("p0\np1\np2\np3\n")
    code, err, _groups = evaluate(
        "--images", image_set, "--split", split, "--fit-prior", "--baselines-only"
    )
    assert code == 1
    assert str(split) in one_line(err)


# ---- all of them


def test_every_row_has_every_metric(avsal_command, image_set, split, tmp_path):
    maps = tmp_path / "maps"
    maps.mkdir()
    for index in (1, 3):
        cv2.imwrite(
            str(maps / f"p{index}.png"), np.arange(48 * 64, dtype=np.uint16).reshape(48, 64)
        )
    arguments = ("--images", image_set, "--split", split, "--fit-prior", "--predictions", maps)
    code, out, _err = avsal_command("evaluate", *arguments, "--json", "-o", tmp_path / "out")
    assert code == 0
    rows = json.loads(out)["groups"]["photographs"]["mean"]
    methods = [
        *("maps", "centre Gaussian", "uniform", FITTED, "mean map of others", "spectral residual"),
        "inter-observer",
    ]
    assert list(rows) == methods
    for method, scores in rows.items():
        assert set(scores) == METRICS, method
    _code, out, _err = avsal_command("evaluate", *arguments, "-o", tmp_path / "out")
    for method in methods:
        (line,) = [line for line in out.splitlines() if line.strip().startswith(method + " ")]
        cells = [f"{rows[method][key]:.3f}" for key in ("nss", "cc", "auc_judd", "sauc", "sim")]
        assert set(cells) <= set(line.split())
