"""Evaluation on a tiny STAViS tree against an independent computation, resuming, wrong input."""

from __future__ import annotations

import json
import os
import shutil
from fractions import Fraction

import cv2
import numpy as np
import pytest
import stavis_tree
from evaluation_oracle import (
    BASELINES,
    KEYS,
    annotated_frames,
    centre,
    independent_scores,
    one_line,
    per_recording,
    shuffled_auc,
)


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
    from avsal.evaluation import run

    scored = []

    def watched(recordings, *rest):
        recordings = list(recordings)
        scored.extend(recording.name for recording in recordings)
        return original(recordings, *rest)

    original = run.score_recordings
    monkeypatch.setattr(run, "score_recordings", watched)
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


@pytest.mark.parametrize(
    "changed",
    [
        "annotations/SumMe/clip_2/fixMap_00007.mat",
        "annotations/SumMe/clip_2/maps/eyeMap_00007.jpg",
        "video_frames/SumMe/clip_2/img_00007.jpg",
        "video_audio/SumMe/clip_2/clip_2.wav",
    ],
)
def test_repaired_files_are_scored_again(evaluate, tmp_path, changed):
    root = tmp_path / "tree"
    stavis_tree.write_tree(root, ("SumMe",))
    arguments = ("--data", root, "--database", "SumMe", "--fold", 1, "--baselines-only")
    evaluate(*arguments)
    kept = tmp_path / "out" / "results" / "fold1" / "SumMe" / "clip_2.json"
    before = kept.read_text()
    os.utime(root / changed, (1, 1))
    evaluate(*arguments)
    assert kept.read_text() != before
    before = kept.read_text()
    evaluate(*arguments)
    assert kept.read_text() == before


def test_a_stop_in_the_middle_keeps_what_is_finished(evaluate, tree, tmp_path, monkeypatch):
    from avsal.evaluation import run

    saved = []
    save = run.save_scores

    def stop_after_one(folder, result, made_with):
        if saved:
            raise KeyboardInterrupt
        saved.append(result.name)
        save(folder, result, made_with)

    arguments = ("--data", tree, "--database", "SumMe", "--fold", 1, "--baselines-only")
    monkeypatch.setattr(run, "save_scores", stop_after_one)
    code, _err, _groups = evaluate(*arguments)
    assert code == 130
    files = [path.name for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert files == ["clip_2.json"]
    monkeypatch.setattr(run, "save_scores", save)
    assert evaluate(*arguments)[2] == evaluate(*arguments, out="fresh")[2]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("summary.json", '{"measure": 1, "areas": [], "spread": 0}'),
        ("scores.csv", "mine"),
        ("results/fold1/SumMe/clip_2.json", "{}"),
    ],
)
def test_files_of_others_are_kept(avsal_command, tree, tmp_path, name, text):
    path = tmp_path / "out" / name
    path.parent.mkdir(parents=True)
    path.write_text(text)
    data = ("--data", tree, "--database", "SumMe", "--fold", "1", "--baselines-only")
    code, _out, err = avsal_command("evaluate", *data, "-o", tmp_path / "out")
    assert code == 1
    assert f"holds {path.name}, so it is not an earlier result" in one_line(err)
    assert path.read_text() == text


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
        (("--fixations", "x.csv"), "VIDEO"),
        (("--annotations", "x"), "--predictions"),
        (("--data", "x", "--split", "y"), "--images"),
        (("--images", "x", "--fit-prior"), "--split"),
        (("--data", "x", "--predictions", "y", "--baselines-only"), "--baselines-only"),
        (("--images", "x", "--pixels-per-degree", "-3"), "pixels-per-degree"),
    ],
)
def test_wrong_usage(evaluate, arguments, says):
    code, err, _groups = evaluate(*arguments)
    assert code == 2
    assert says in one_line(err)


@pytest.mark.parametrize(
    ("option", "value", "known"), [("--database", "DHF1K", "SumMe"), ("--fold", "4", "3")]
)
def test_fixed_words(evaluate, option, value, known):
    code, err, _groups = evaluate("--data", "x", option, value)
    assert code == 2
    assert f"'{value}' is not one of" in err
    assert f"'{known}'" in err


def test_json_on_stdout(avsal_command, tree, tmp_path):
    arguments = ("--data", tree, "--database", "DIEM", "--fold", 1, "--baselines-only", "--json")
    _code, out, _err = avsal_command("evaluate", *arguments, "-o", tmp_path / "out")
    assert json.loads(out) == json.loads((tmp_path / "out" / "summary.json").read_text())


def test_the_table_stands_beside_the_paper(avsal_command, tree, tmp_path):
    arguments = ("--data", tree, "--database", "DIEM", "--fold", 1, "--baselines-only")
    _code, out, _err = avsal_command("evaluate", *arguments, "-o", tmp_path / "out")
    (line,) = [line for line in out.splitlines() if "MViTv2-S 224x384 (paper)" in line]
    assert line.split()[-7:] == ["0.671", "-", "2.710", "-", "-", "-", "-"]
