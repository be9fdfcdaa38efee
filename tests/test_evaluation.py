"""Evaluation on a tiny data set against an independent computation, resuming, and wrong input."""

from __future__ import annotations

import csv
import json
import shutil
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
import samples
import stavis_tree
from scipy.io import loadmat

KEYS = ("cc", "sim", "nss", "auc_judd", "kl")
BASELINES = {"centre Gaussian", "uniform", "mean map of others"}


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("stavis")
    stavis_tree.write_tree(root)
    return root


@pytest.fixture
def evaluate(avsal_command, tmp_path):
    """Run `avsal evaluate ... -o tmp_path/out`; returns code, stderr, and the summary's groups."""

    def run(*arguments, out="out"):
        code, _out, err = avsal_command("evaluate", *arguments, "-o", tmp_path / out)
        summary = tmp_path / out / "summary.json"
        return code, err, json.loads(summary.read_text())["groups"] if summary.is_file() else {}

    return run


def per_recording(folder: Path, method: str) -> dict[str, dict[str, float]]:
    """One method's scores by recording, from scores.csv."""
    rows = csv.DictReader((folder / "scores.csv").read_text().splitlines())
    mine = (row for row in rows if row["method"] == method)
    return {row["name"]: {key: float(row[key]) for key in KEYS} for row in mine}


def one_line(err: str) -> str:
    lines = [line for line in err.splitlines() if line.startswith("error:")]
    assert len(lines) == 1, err
    assert "Traceback" not in err
    return lines[0]


# ---- an independent reading and scoring of the tree


def annotated_frames(tree: Path, database: str, name: str):
    """(index, map, fixations) of the frames with fixations, read by other means."""
    folder = tree / "annotations" / database / name
    for index in range(18):
        fixations = loadmat(folder / f"fixMap_{index + 1:05d}.mat")["eyeMap"] > 0
        if fixations.any():
            path = folder / "maps" / f"eyeMap_{index + 1:05d}.jpg"
            yield index, cv2.imread(str(path), cv2.IMREAD_GRAYSCALE), fixations


def independent_scores(tree: Path, database: str, name: str, maps) -> dict[str, float]:
    """Mean scores of a video's maps (a function of the frame's index)."""
    frames = list(annotated_frames(tree, database, name))
    assert len(frames) == 16  # of 18; on two of them nobody looked
    rows = []
    for index, density, fixations in frames:
        saliency = np.asarray(maps(index), float)
        if saliency.shape != density.shape:
            saliency = cv2.resize(saliency, density.shape[::-1], interpolation=cv2.INTER_LINEAR)
        p, q = saliency / saliency.sum(), density / density.sum()
        unit = [(m - m.min()) / (m.max() - m.min()) for m in (saliency, density.astype(float))]
        low, high = unit[0] / unit[0].sum(), unit[1] / unit[1].sum()
        eps = 2.0**-52
        rows.append(
            {
                "cc": np.corrcoef(saliency.ravel(), density.ravel())[0, 1],
                "sim": np.minimum(low, high).sum(),
                "nss": ((saliency - saliency.mean()) / saliency.std(ddof=1))[fixations].mean(),
                "auc_judd": slow_auc(saliency, fixations),
                "kl": (q * np.log(eps + q / (p + eps))).sum(),
            }
        )
    return {key: float(np.mean([row[key] for row in rows])) for key in rows[0]}


def slow_auc(saliency: np.ndarray, fixations: np.ndarray) -> float:
    hits = np.sort(saliency[fixations])[::-1]
    false = [((saliency >= hit).sum() - rank) for rank, hit in enumerate(hits, 1)]
    x = [0, *(np.array(false) / (~fixations).sum()), 1]
    y = [0, *(np.arange(1, len(hits) + 1) / len(hits)), 1]
    return float(np.trapezoid(y, x))


def shuffled_auc(tree: Path, database: str, name: str, saliency: np.ndarray) -> float:
    """sAUC by its words: the union of the video's fixations minus the frame's own, many draws."""
    frames = list(annotated_frames(tree, database, name))
    union = np.logical_or.reduce([fixations for _index, _density, fixations in frames])
    unit = (saliency - saliency.min()) / (saliency.max() - saliency.min())
    random = np.random.default_rng(5)
    areas = []
    for _index, _density, fixations in frames:
        hits, pool = unit[fixations], unit[union & ~fixations]
        for _draw in range(100):
            misses = random.choice(pool, min(hits.size, pool.size), replace=False)
            steps = np.arange(10, -1, -1) / 10
            x = [0, *[(misses >= step).mean() for step in steps], 1]
            y = [0, *[(hits >= step).mean() for step in steps], 1]
            areas.append(np.trapezoid(y, x))
    return float(np.mean(areas))


def centre(height: int = 48, width: int = 64) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    x, y = (x + 0.5) / width - 0.5, (y + 0.5) / height - 0.5
    return np.exp(-((y / 0.19) ** 2) / 2) * np.exp(-((x / 0.22) ** 2) / 2)


# ---- the STAViS layout


def test_baselines_equal_an_independent_computation(evaluate, tree):
    code, err, groups = evaluate(
        "--data", tree, "--database", "SumMe", "--fold", 1, "--baselines-only"
    )
    assert (code, err) == (0, "")
    assert set(groups) == {"SumMe"}
    assert groups["SumMe"]["recordings"] == 2
    assert groups["SumMe"]["frames"] == 32
    rows = groups["SumMe"]["mean"]
    assert set(rows) == BASELINES
    names = ("clip_2", "clip_3")
    each = [independent_scores(tree, "SumMe", name, lambda _index: centre()) for name in names]
    for key in KEYS:
        expected = np.mean([scores[key] for scores in each])
        assert rows["centre Gaussian"][key] == pytest.approx(expected, abs=1e-9), key
    shuffled = np.mean([shuffled_auc(tree, "SumMe", name, centre()) for name in names])
    assert rows["centre Gaussian"]["sauc"] == pytest.approx(shuffled, abs=0.01)
    assert rows["centre Gaussian"]["ig"] == 0
    uniform = rows["uniform"]
    assert (uniform["cc"], uniform["nss"], uniform["auc_judd"], uniform["sauc"]) == (0, 0, 0.5, 0.5)


def test_the_mean_map_is_that_of_the_other_video(evaluate, tree, tmp_path):
    evaluate("--data", tree, "--database", "SumMe", "--fold", 1, "--baselines-only")
    frames = annotated_frames(tree, "SumMe", "clip_3")
    other = np.mean([density / density.sum() for _index, density, _fixations in frames], axis=0)
    expected = independent_scores(tree, "SumMe", "clip_2", lambda _index: other)
    found = per_recording(tmp_path / "out", "mean map of others")["clip_2"]
    for key in ("cc", "nss", "auc_judd", "kl"):  # it is averaged on a grid, hence not exact
        assert found[key] == pytest.approx(expected[key], rel=0.02), key


def test_the_network_is_scored_on_its_own_maps(evaluate, tree, tiny, tiny_weights, tmp_path):
    from avsal import load_model
    from avsal.media import AudioReader, VideoFrame

    code, err, groups = evaluate(
        *("--data", tree, "--database", "SumMe", "--fold", 1),
        *("--model", tiny, "--weights", tiny_weights, "--device", "cpu"),
    )
    assert (code, err) == (0, "")
    assert set(groups["SumMe"]["mean"]) == {"tiny", *BASELINES}
    folder = tree / "video_frames" / "SumMe" / "clip_2"
    pictures = [cv2.imread(str(path))[..., ::-1] for path in sorted(folder.iterdir())]
    frames = [VideoFrame(i, Fraction(i, 10), Fraction(1, 10), p) for i, p in enumerate(pictures)]
    with AudioReader(tree / "video_audio" / "SumMe" / "clip_2" / "clip_2.wav") as sound:
        predictor = load_model(tiny, tiny_weights, "cpu")
        maps = {
            frame.index: np.exp(frame.log_density)
            for frame in predictor.predict_frames(frames, sound)
        }
    blurred = {
        i: cv2.GaussianBlur(np.log(density), (11, 11), 0, borderType=cv2.BORDER_REFLECT_101)
        for i, density in maps.items()
    }
    expected = independent_scores(tree, "SumMe", "clip_2", lambda i: np.exp(blurred[i]))
    found = per_recording(tmp_path / "out", "tiny")["clip_2"]
    for key in KEYS:
        assert found[key] == pytest.approx(expected[key], rel=1e-3, abs=1e-4), key


def test_folds_are_averaged(evaluate, tree):
    code, _err, groups = evaluate("--data", tree, "--baselines-only")
    assert code == 0
    folds = groups["SumMe"]["folds"]
    assert set(folds) == {"1", "2", "3"}
    each = [folds[fold]["centre Gaussian"]["cc"] for fold in folds]
    assert len(set(each)) == 3  # other videos in every fold
    assert groups["SumMe"]["mean"]["centre Gaussian"]["cc"] == pytest.approx(np.mean(each))
    same = [rows["centre Gaussian"]["cc"] for rows in groups["DIEM"]["folds"].values()]
    assert len(same) == 3
    assert len(set(same)) == 1  # DIEM has one split
    assert groups["DIEM"]["published"]["S3D 224x384 (paper)"] == {"cc": 0.653, "nss": 2.62}


def test_weights_of_each_fold(evaluate, tree, tiny, tiny_weights, tmp_path):
    for fold in (1, 2):
        shutil.copy(tiny_weights, tmp_path / f"fold{fold}.safetensors")
    network = ("--model", tiny, "--weights", tmp_path / "fold{fold}.safetensors", "--device", "cpu")
    data = ("--data", tree, "--database", "SumMe", "--stride", 9)
    assert evaluate(*data, "--fold", 2, *network)[0] == 0
    code, err, _groups = evaluate(*data, "--fold", 3, *network)
    assert code == 1
    assert "fold3.safetensors" in one_line(err)


def test_a_second_call_goes_on_where_the_first_stopped(
    evaluate, tree, tiny, tiny_weights, tmp_path, monkeypatch
):
    from avsal.evaluation import session

    scored = []

    def watched(recordings, *rest):
        recordings = list(recordings)
        scored.extend(recording.name for recording in recordings)
        return original(recordings, *rest)

    original = session.evaluate
    monkeypatch.setattr(session, "evaluate", watched)
    arguments = ("--data", tree, "--database", "SumMe", "--fold", 1, "--stride", 9)
    network = ("--model", tiny, "--weights", tiny_weights, "--device", "cpu")
    _code, _err, first = evaluate(*arguments, *network)
    assert scored == ["clip_2", "clip_3"]
    _code, _err, again = evaluate(*arguments, *network)
    assert scored == ["clip_2", "clip_3"]
    assert again == first
    (tmp_path / "out" / "results" / "fold1" / "SumMe" / "clip_3.json").write_text("{broken")
    _code, _err, repaired = evaluate(*arguments, *network)
    assert scored == ["clip_2", "clip_3", "clip_3"]
    assert repaired == first
    evaluate(*arguments, *network, "--audio-context", 16)  # other settings: nothing is kept
    assert scored[3:] == ["clip_2", "clip_3"]


def test_a_stop_in_the_middle_keeps_what_is_finished(evaluate, tree, tmp_path, monkeypatch):
    from avsal.evaluation.store import ResultStore

    saved = []
    save = ResultStore.save

    def stop_after_one(store, result, record):
        if saved:
            raise KeyboardInterrupt
        saved.append(result.name)
        save(store, result, record)

    arguments = ("--data", tree, "--database", "SumMe", "--fold", 1, "--baselines-only")
    monkeypatch.setattr(ResultStore, "save", stop_after_one)
    code, _err, _groups = evaluate(*arguments)
    assert code == 130
    files = [path.name for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert files == ["clip_2.json"]
    monkeypatch.setattr(ResultStore, "save", save)
    assert evaluate(*arguments)[2] == evaluate(*arguments, out="fresh")[2]


def test_a_broken_video_does_not_stop_the_others(evaluate, tmp_path):
    root = tmp_path / "tree"
    stavis_tree.write_tree(root, ("SumMe",))
    missing = root / "annotations" / "SumMe" / "clip_2" / "fixMap_00009.mat"
    missing.unlink()
    code, err, groups = evaluate(
        "--data", root, "--database", "SumMe", "--fold", 1, "--baselines-only"
    )
    assert code == 1
    assert str(missing) in one_line(err)
    assert "1 of 2 failed" in err
    assert groups["SumMe"]["recordings"] == 1


@pytest.mark.parametrize(
    "missing",
    [
        "fold_lists/SumMe_list_test_1_fps.txt",
        "video_frames/SumMe/clip_2/img_00001.jpg",
        "annotations/SumMe/clip_2/maps/eyeMap_00001.jpg",
    ],
)
def test_a_wrong_layout_names_the_missing_file(evaluate, tmp_path, missing):
    root = tmp_path / "tree"
    stavis_tree.write_tree(root, ("SumMe",))
    (root / missing).unlink()
    code, err, _groups = evaluate("--data", root, "--database", "SumMe", "--fold", 1)
    assert code == 1
    assert str(root / missing) in one_line(err)


def test_a_folder_without_lists_is_no_stavis_layout(evaluate, tmp_path):
    (tmp_path / "images").mkdir()
    code, err, _groups = evaluate("--data", tmp_path)
    assert code == 1
    assert str(tmp_path / "fold_lists") in one_line(err)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "--data"),
        (("--data", "x", "--images", "y"), "one of"),
        (("--data", "x", "--database", "DHF1K"), "DHF1K"),
        (("--data", "x", "--fold", "4"), "fold 4"),
        (("--fixations", "x.csv"), "VIDEO"),
        (("--annotations", "x"), "--predictions"),
        (("--data", "x", "--split", "y"), "--images"),
        (("--data", "x", "--predictions", "y", "--baselines-only"), "--baselines-only"),
        (("--images", "x", "--pixels-per-degree", "-3"), "pixels-per-degree"),
    ],
)
def test_wrong_usage(evaluate, arguments, says):
    code, err, _groups = evaluate(*arguments)
    assert code == 2
    assert says in one_line(err)


# ---- maps made elsewhere


def write_maps(folder: Path, first: int, suffix: str, frames: int = 18) -> None:
    """Maps of the centre at twice the annotations' size, numbered from `first`."""
    folder.mkdir(parents=True)
    for index in range(frames):
        values = centre(96, 128)
        path = folder / f"pred_{index + first:05d}{suffix}"
        if suffix == ".npy":
            np.save(path, values)
        else:
            cv2.imwrite(str(path), np.rint(values * 65535).astype(np.uint16))


@pytest.mark.parametrize(("first", "suffix"), [(1, ".npy"), (0, ".png")])
def test_predictions_made_elsewhere(evaluate, tree, tmp_path, first, suffix):
    predictions = tmp_path / "made"
    for name in ("clip_0", "clip_1", "clip_2", "clip_3"):
        write_maps(predictions / name, first, suffix)
    annotations = tree / "annotations" / "SumMe"
    code, err, _groups = evaluate("--predictions", predictions, "--annotations", annotations)
    assert (code, err) == (0, "")
    found = per_recording(tmp_path / "out", "made")
    assert set(found) == {"clip_0", "clip_1", "clip_2", "clip_3"}
    expected = independent_scores(tree, "SumMe", "clip_1", lambda _index: centre(96, 128))
    for key in KEYS:
        assert found["clip_1"][key] == pytest.approx(expected[key], rel=1e-3), key


def test_every_frame_with_fixations_needs_a_map(evaluate, tree, tmp_path):
    predictions = tmp_path / "made"
    write_maps(predictions, 1, ".npy")
    (predictions / "pred_00003.npy").unlink()  # nobody looked at this frame
    annotations = tree / "annotations" / "SumMe" / "clip_0"
    code, err, _groups = evaluate("--predictions", predictions, "--annotations", annotations)
    assert (code, err) == (0, "")
    (predictions / "pred_00007.npy").unlink()
    code, err, _groups = evaluate("--predictions", predictions, "--annotations", annotations)
    assert code == 1
    assert "000007.png" in one_line(err)


def test_results_of_predict_are_scored(evaluate, avsal_command, tree, tiny, tiny_weights, tmp_path):
    """The command's own output folder counts frames from 0, the annotations' files from 1."""
    stills = sorted((tree / "video_frames" / "SumMe" / "clip_0").iterdir())
    video = samples.lossless(
        tmp_path / "clip_0.mov", [cv2.imread(str(path))[..., ::-1] for path in stills]
    )
    network = ("--model", tiny, "--weights", tiny_weights, "--device", "cpu")
    options = ("--format", "npy", "--size", "64x48")
    avsal_command("predict", video, "-o", tmp_path / "maps", *options, *network)
    maps = {i: np.load(tmp_path / "maps" / "clip_0" / f"{i:06d}.npy") for i in range(18)}
    annotations = tree / "annotations" / "SumMe" / "clip_0"
    code, err, _groups = evaluate("--predictions", tmp_path / "maps", "--annotations", annotations)
    assert (code, err) == (0, "")
    expected = independent_scores(tree, "SumMe", "clip_0", maps.get)
    found = per_recording(tmp_path / "out", "maps")["clip_0"]
    for key in KEYS:
        assert found[key] == pytest.approx(expected[key], abs=1e-6), key


# ---- a table of gaze on any video


@pytest.fixture
def watched(tmp_path) -> tuple[Path, Path]:
    """A video of 10 frames in a second, and gaze of two observers on its first half."""
    video = samples.constant_rate(tmp_path / "walk.mp4", frames=10, rate=10)
    table = tmp_path / "gaze.csv"
    rows = ["time,x,y,observer"]
    rows += [f"{0.1 * i + 0.03:.2f},{20 + 3 * i},{10 + 2 * i},anna" for i in range(5)]
    rows += [f"{0.1 * i + 0.05:.2f},{24 + 3 * i},{11 + 2 * i},bert" for i in range(5)]
    table.write_text("\n".join(rows) + "\n")
    return video, table


def test_gaze_on_any_video(evaluate, watched, tmp_path):
    video, table = watched
    code, err, groups = evaluate(
        video, "--fixations", table, "--pixels-per-degree", 4, "--baselines-only"
    )
    assert (code, err) == (0, "")
    rows = groups["gaze"]["mean"]
    assert groups["gaze"]["frames"] == 5
    assert set(rows) == {"centre Gaussian", "uniform", "inter-observer"}
    saliency = centre()
    standard = (saliency - saliency.mean()) / saliency.std(ddof=1)
    hits = [[standard[10 + 2 * i, 20 + 3 * i], standard[11 + 2 * i, 24 + 3 * i]] for i in range(5)]
    assert rows["centre Gaussian"]["nss"] == pytest.approx(np.mean(hits), abs=1e-6)
    y, x = np.mgrid[:48, :64] + 0.5
    spots = [(20, 10), (24, 11)]
    correlations = []
    for i in range(5):
        one, two = (
            np.exp(-((x - a - 3 * i) ** 2 + (y - b - 2 * i) ** 2) / (2 * 4**2)) for a, b in spots
        )
        correlations.append(np.corrcoef(one.ravel(), two.ravel())[0, 1])
    assert rows["inter-observer"]["cc"] == pytest.approx(np.mean(correlations), abs=1e-3)


def test_gaze_in_fractions_is_the_same(evaluate, watched, tmp_path):
    video, table = watched
    header, *lines = table.read_text().split()
    parts = [line.split(",") for line in lines]
    fractions = tmp_path / "gaze" / "gaze.csv"
    fractions.parent.mkdir()
    text = [f"{t},{(float(x) + 0.5) / 64},{(float(y) + 0.5) / 48},{who}" for t, x, y, who in parts]
    fractions.write_text("\n".join([header, *text]))
    arguments = (video, "--baselines-only", "--fixations")
    in_pixels = evaluate(*arguments, table)[2]["gaze"]["mean"]["centre Gaussian"]
    in_fractions = evaluate(*arguments, fractions, out="two")[2]["gaze"]["mean"]["centre Gaussian"]
    assert in_fractions["nss"] == pytest.approx(in_pixels["nss"])
    assert in_fractions["auc_judd"] == pytest.approx(in_pixels["auc_judd"])


def test_a_network_on_gaze(evaluate, watched, tiny, tiny_weights):
    video, table = watched
    network = ("--model", tiny, "--weights", tiny_weights, "--device", "cpu")
    code, err, groups = evaluate(video, "--fixations", table, *network)
    assert (code, err) == (0, "")
    assert groups["gaze"]["mean"]["tiny"]["cc"] != 0


def test_a_malformed_table(evaluate, watched, tmp_path):
    table = tmp_path / "bad.csv"
    table.write_text("time,x\n0.1,3\n")
    code, err, _groups = evaluate(watched[0], "--fixations", table)
    assert code == 1
    assert "bad.csv" in one_line(err)
    assert "y" in one_line(err)


# ---- image sets


@pytest.fixture
def image_set(tmp_path) -> Path:
    """Four pictures with a table of three observers' fixations."""
    root = tmp_path / "photographs"
    (root / "images").mkdir(parents=True)
    random = np.random.default_rng(3)
    rows = []
    for index in range(4):
        picture = random.integers(0, 255, (60, 80, 3), np.uint8)
        cv2.imwrite(str(root / "images" / f"p{index}.jpg"), picture)
        places = np.clip(random.normal(0.5, 0.15, (12, 2)), 0, 0.99)
        rows += [(index, number % 3, x, y, 200) for number, (x, y) in enumerate(places)]
    np.savez(
        root / "fixations.npz",
        names=[f"p{index}.jpg" for index in range(4)],
        orig_size=[[80, 60]] * 4,
        fix=np.array(rows, np.float32),
    )
    return root


def test_image_sets(evaluate, image_set, tiny, tiny_weights, tmp_path):
    network = ("--model", tiny, "--weights", tiny_weights, "--device", "cpu")
    code, err, groups = evaluate("--images", image_set, *network)
    assert (code, err) == (0, "")
    rows = groups["photographs"]["mean"]
    assert groups["photographs"]["recordings"] == 4
    assert set(rows) == {"tiny", "inter-observer", *BASELINES}
    fixations = np.load(image_set / "fixations.npz")["fix"]
    saliency = centre(60, 80)
    standard = (saliency - saliency.mean()) / saliency.std(ddof=1)
    nss = []
    for index in range(4):
        mine = fixations[fixations[:, 0] == index].astype(np.float64)
        pixels = {(int(y * 60 + 1e-3), int(x * 80 + 1e-3)) for x, y in mine[:, 2:4]}
        nss.append(np.mean([standard[pixel] for pixel in pixels]))
    assert rows["centre Gaussian"]["nss"] == pytest.approx(np.mean(nss))
    split = tmp_path / "names.txt"
    split.write_text("p1.jpg\np3.jpg\n")
    _code, _err, groups = evaluate("--images", image_set, "--split", split, "--baselines-only")
    assert groups["photographs"]["recordings"] == 2


def test_saved_maps_of_images(evaluate, image_set, tmp_path):
    (tmp_path / "maps").mkdir()
    for index in range(4):
        np.save(tmp_path / "maps" / f"p{index}.npy", centre(30, 40))
    code, err, groups = evaluate("--images", image_set, "--predictions", tmp_path / "maps")
    assert (code, err) == (0, "")
    rows = groups["photographs"]["mean"]
    assert rows["maps"]["nss"] == pytest.approx(rows["centre Gaussian"]["nss"], rel=0.01)
    (tmp_path / "maps" / "p2.npy").unlink()
    code, err, _groups = evaluate("--images", image_set, "--predictions", tmp_path / "maps")
    assert code == 1
    assert "p2" in one_line(err)


def test_json_on_stdout(avsal_command, tree, tmp_path):
    arguments = ("--data", tree, "--database", "DIEM", "--fold", 1, "--baselines-only", "--json")
    _code, out, _err = avsal_command("evaluate", *arguments, "-o", tmp_path / "out")
    assert json.loads(out) == json.loads((tmp_path / "out" / "summary.json").read_text())


def test_the_table_stands_beside_the_paper(avsal_command, tree, tmp_path):
    arguments = ("--data", tree, "--database", "DIEM", "--fold", 1, "--baselines-only")
    _code, out, _err = avsal_command("evaluate", *arguments, "-o", tmp_path / "out")
    (line,) = [line for line in out.splitlines() if "MViTv2-S 224x384 (paper)" in line]
    assert line.split()[-7:] == ["0.671", "-", "2.710", "-", "-", "-", "-"]
