"""Maps and recorded gaze that no score can be made of are refused by name."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat
from scipy.sparse import csc_matrix

from avsal import metrics
from avsal.datasets import DatasetSpec, open_dataset
from avsal.errors import DataError

WIDTH, HEIGHT, NAMES = 80, 60, ("p0", "p1", "p2")


def density() -> np.ndarray:
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    return np.exp(-((columns - 30.0) ** 2 + (rows - 20.0) ** 2) / 200)


def mask() -> np.ndarray:
    points = np.zeros((HEIGHT, WIDTH), np.uint8)
    points[[15, 20, 25], [25, 30, 35]] = 255
    return points


@pytest.fixture
def pictures(tmp_path) -> Path:
    """Three pictures with maps and fixations, in the folders' usual names."""
    root = tmp_path / "set"
    for name in ("images", "maps", "fixations"):
        (root / name).mkdir(parents=True)
    for number, name in enumerate(NAMES):
        picture = np.random.default_rng(number).integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)
        Image.fromarray(picture).save(root / "images" / f"{name}.png")
        Image.fromarray(np.rint(255 * density()).astype(np.uint8)).save(
            root / "maps" / f"{name}.png"
        )
        Image.fromarray(mask()).save(root / "fixations" / f"{name}.png")
    return root


def maps(folder: Path, values: np.ndarray) -> Path:
    folder.mkdir()
    for name in NAMES:
        np.save(folder / f"{name}.npy", values)
    return folder


def strict(path: Path) -> object:
    """The content of a JSON file, which knows no NaN."""
    return json.loads(path.read_text(), parse_constant=pytest.fail)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.log(density()), "negative values.*log-densities"),
        ((density() - density().mean()) / density().std(), "negative values.*z-scores"),
        (np.where(density() > 0.5, np.nan, density()), "not finite"),
        (np.where(density() > 0.5, np.inf, density()), "not finite"),
    ],
)
def test_predictions_are_densities(evaluate, pictures, tmp_path, values, message):
    made = maps(tmp_path / "made", values)
    np.save(made / "p1.npy", density())
    code, err, groups = evaluate("--images", pictures, "--predictions", made)
    assert code == 1
    lines = [line for line in err.splitlines() if line.startswith("error:")]
    assert len(lines) == 2
    for line, name in zip(lines, ("p0", "p2"), strict=True):
        assert str(made / f"{name}.npy") in line
        assert re.search(message, line)
    assert groups["set"]["recordings"] == 1
    strict(tmp_path / "out" / "summary.json")


def save_float(path: Path, values: np.ndarray) -> None:
    Image.fromarray(values.astype(np.float32)).save(path)


NO_TRUTHS = {
    "a map with NaN": ("maps", ".tif", np.where(density() > 0.9, np.nan, density()), "not finite"),
    "a negative map": ("maps", ".tif", density() - 0.5, "negative"),
    "a mask with NaN": ("fixations", ".mat", np.where(mask() > 0, 1, np.nan), "not finite"),
    "a negative mask": ("fixations", ".mat", np.where(mask() > 0, 1.0, -1), "negative"),
    "an array with NaN": ("fixations", ".npy", np.where(mask() > 0, 1, np.nan), "not finite"),
    "an inverted photograph": ("fixations", ".jpg", 255 - mask(), "inverted"),
    "an inverted mask": ("fixations", ".png", 255 - mask(), "inverted"),
    "a map as a mask": ("fixations", ".mat", density(), "is it a map"),
}


@pytest.mark.parametrize("kind", NO_TRUTHS)
def test_truths_are_checked(pictures, kind):
    folder, suffix, values, message = NO_TRUTHS[kind]
    path = pictures / folder / f"p1{suffix}"
    (pictures / folder / "p1.png").unlink()
    if suffix == ".mat":
        savemat(path, {"fixations": values})
    elif suffix == ".npy":
        np.save(path, values)
    elif suffix == ".tif":
        save_float(path, values)
    else:
        Image.fromarray(values).save(path)
    first, second, _third = open_dataset(DatasetSpec(root=pictures))
    assert first.gaze(next(first.tags())) is not None
    with pytest.raises(DataError, match=rf"p1\{suffix}: .*{message}"):
        second.gaze(next(first.tags()))


@pytest.mark.parametrize("suffix", [".mat", ".MAT"])
def test_sparse_masks_and_large_letters(pictures, suffix):
    (pictures / "fixations" / "p1.png").unlink()
    values = csc_matrix(mask().astype(float))
    savemat(pictures / "fixations" / f"p1{suffix}", {"I": values}, appendmat=False)
    for still in open_dataset(DatasetSpec(root=pictures)):
        gaze = still.gaze(next(still.tags()))
        np.testing.assert_array_equal(gaze.fixations, mask() > 0)


@pytest.mark.parametrize("with_pictures", [True, False])
def test_a_folder_called_fixation(evaluate, pictures, tmp_path, with_pictures):
    """As DHF1K, UCF Sports and Hollywood-2 call it."""
    (pictures / "fixations").rename(pictures / "fixation")
    made = maps(tmp_path / "made", density())
    option = "--images" if with_pictures else "--annotations"
    code, err, groups = evaluate(option, pictures, "--predictions", made)
    assert (code, err) == (0, "")
    assert groups["set"]["mean"]["made"]["nss"] > 2
    assert groups["set"]["mean"]["made"]["auc_judd"] > 0.9


def test_missing_fixations_are_told(pictures, caplog):
    (pictures / "fixations").rename(pictures / "looked")
    open_dataset(DatasetSpec(root=pictures))
    (record,) = caplog.records
    assert f"{pictures}: has no fixations in a folder fixations" in record.getMessage()
    assert "not read: looked" in record.getMessage()


def test_gaze_of_exchanged_width_and_height(pictures, caplog):
    for name in NAMES:
        (pictures / "maps" / f"{name}.png").unlink()
        Image.fromarray(mask().T.copy()).save(pictures / "fixations" / f"{name}.png")
    still, *_rest = open_dataset(DatasetSpec(root=pictures))
    assert list(still.problems()) == []
    assert "p0.png: the gaze is on 60x80 pixels, but the picture has 80x60" in caplog.text


# ---- a table of fixations


def change_table(path: Path, **changes: object) -> None:
    with np.load(path) as table:
        arrays = dict(table)
    np.savez(path, **(arrays | changes))


def test_tables_that_name_other_pictures(image_set):
    table = image_set / "fixations.npz"
    with np.load(table) as arrays:
        fix = arrays["fix"]
    change_table(table, fix=fix + np.array([1, 0, 0, 0, 0], np.float32))
    with pytest.raises(DataError, match=r"picture numbers 1 to 4.* 0 to 3.*subtract 1"):
        open_dataset(DatasetSpec(root=image_set))
    change_table(table, fix=fix * np.array([1, 1, 80, 60, 1], np.float32))
    with pytest.raises(DataError, match="divide pixels by orig_size"):
        open_dataset(DatasetSpec(root=image_set))
    nan = fix.copy()
    nan[0, 0] = np.nan
    change_table(table, fix=nan)
    with pytest.raises(DataError, match="fractions as picture numbers"):
        open_dataset(DatasetSpec(root=image_set))


def test_lost_rows_of_tables_are_told(image_set, caplog):
    table = image_set / "fixations.npz"
    with np.load(table) as arrays:
        fix = arrays["fix"]
    fix[:6, 2:4] = 0
    change_table(table, fix=fix)
    first, *_rest = open_dataset(DatasetSpec(root=image_set))
    assert len(first.gaze(next(first.tags())).points) == 6
    assert "48 rows; 6 lost" in caplog.text


def test_sizes_of_tables_are_width_and_height(evaluate, image_set):
    change_table(image_set / "fixations.npz", orig_size=[[60, 80]] * 4)
    code, err, groups = evaluate("--images", image_set, "--baselines-only")
    assert (code, groups) == (1, {})
    assert "p0.jpg: the gaze is on 60x80 pixels, but the picture has 80x60" in err
    assert "exchanged" in err


@pytest.mark.parametrize("degree", ["nan", "inf", "0", "-3"])
def test_degrees_are_numbers(evaluate, image_set, degree):
    options = ("--images", image_set, "--baselines-only", "--pixels-per-degree", degree)
    code, err, _groups = evaluate(*options)
    assert code == 2
    assert "give a number above 0" in err


# ---- the metrics themselves


def test_metrics_refuse_what_is_no_density():
    points, logs = mask() > 0, np.log(density())
    for metric in (metrics.kl, metrics.score):
        with pytest.raises(ValueError, match="exponential"):
            metric(logs, density())
    with pytest.raises(ValueError, match="exponential"):
        metrics.information_gain(logs, points, density())
    holes = np.where(points, np.nan, density())
    for metric in (metrics.cc, metrics.sim, metrics.kl):
        with pytest.raises(ValueError, match="finite"):
            metric(holes, density())
        with pytest.raises(ValueError, match="finite"):
            metric(density(), holes)
    with pytest.raises(ValueError, match="finite"):
        metrics.nss(density(), np.where(points, 1, np.nan))


# ---- names


@pytest.mark.parametrize(
    "name", ["../escaped.jpg", "/escaped.jpg", "..\\escaped.jpg", "a/../b", ""]
)
def test_names_of_tables_stay_in_the_folder(image_set, name):
    (image_set / "escaped.jpg").write_bytes((image_set / "images" / "p0.jpg").read_bytes())
    change_table(image_set / "fixations.npz", names=[name, "p1.jpg", "p2.jpg", "p3.jpg"])
    with pytest.raises(DataError, match=r"fixations\.npz: .*cannot name a file"):
        open_dataset(DatasetSpec(root=image_set))


def test_names_of_lists_stay_in_the_folder(tree, tmp_path):
    root = tmp_path / "copy"
    shutil.copytree(tree, root)
    path = root / "fold_lists" / "SumMe_list_test_1_fps.txt"
    path.write_text("../SumMe/" + path.read_text())
    with pytest.raises(DataError, match=r"fps\.txt:1: .*cannot name a file"):
        open_dataset(DatasetSpec(root=root, databases=("SumMe",)))


def test_scores_stay_in_the_output(tmp_path, image_set):
    """Whatever a recording is called; the others are scored."""
    from avsal.evaluation.run import Evaluation, EvaluationSet

    first, *rest = open_dataset(DatasetSpec(root=image_set))
    outside = replace(first, name="../../../escaped")
    errors = []
    evaluation = Evaluation(tmp_path / "a" / "b", lambda _fold: None, on_recording=errors.append)
    evaluation.run([EvaluationSet("set", (outside, *rest))])
    assert not list(tmp_path.rglob("escaped*"))
    assert len(evaluation.results) == 3
    (error,) = (error for error in errors if error is not None)
    assert "cannot name a file" in str(error)
