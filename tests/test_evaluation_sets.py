"""Evaluation of maps made elsewhere, on tables of gaze and on image sets."""

from __future__ import annotations

import io
import json
import os
import zlib
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
import samples
from evaluation_oracle import BASELINES, KEYS, centre, independent_scores, one_line, per_recording
from PIL import Image

from avsal.datasets import DatasetSpec, open_dataset
from avsal.errors import UsageError
from avsal.evaluation.maps import NetworkMaps
from avsal.media import VideoWriter
from avsal.prediction.model import load_model
from avsal.prediction.settings import PredictSettings

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


@pytest.mark.parametrize("suffix", [".png", ".PNG"])
def test_changed_maps_are_scored_again(evaluate, tree, tmp_path, suffix):
    predictions = tmp_path / "made"
    write_maps(predictions, 1, ".png")
    for path in predictions.iterdir():
        path.rename(path.with_suffix(suffix))
    annotations = tree / "annotations" / "SumMe" / "clip_0"
    arguments = ("--predictions", predictions, "--annotations", annotations)
    first = evaluate(*arguments)[2]["clip_0"]["mean"]["made"]
    changed = predictions / f"pred_00007{suffix}"
    picture = cv2.imread(str(changed), cv2.IMREAD_UNCHANGED)
    changed.write_bytes(cv2.imencode(".png", picture[::-1, ::-1] // 2 + 7)[1].tobytes())
    os.utime(changed, (1, 1))  # copied with its time, so it is not the latest
    second = evaluate(*arguments)[2]["clip_0"]["mean"]["made"]
    assert second["kl"] != first["kl"]


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
    assert "no map of frame 6" in one_line(err)


@pytest.mark.parametrize(
    ("form", "tolerance"),
    [
        ("npy", 1e-6),
        pytest.param("png16", 1e-3, marks=pytest.mark.slow),
        pytest.param("png", 0.02, marks=pytest.mark.slow),
        ("video", 0.1),
    ],
)
def test_results_of_predict_are_scored(
    evaluate, avsal_command, tree, tiny, tiny_weights, tmp_path, form, tolerance
):
    """The command's own output folder counts frames from 0, the annotations' files from 1."""
    stills = sorted((tree / "video_frames" / "SumMe" / "clip_0").iterdir())
    video = samples.lossless(
        tmp_path / "clip_0.mov", [cv2.imread(str(path))[..., ::-1] for path in stills]
    )
    network = ("--model", tiny, "--weights", tiny_weights, "--device", "cpu")
    for name, kind in (("exact", "npy"), ("maps", form)):
        options = ("--format", kind, "--size", "64x48")
        avsal_command("predict", video, "-o", tmp_path / name, *options, *network)
    maps = {i: np.load(tmp_path / "exact" / "clip_0" / f"{i:06d}.npy") for i in range(18)}
    annotations = tree / "annotations" / "SumMe" / "clip_0"
    code, err, _groups = evaluate("--predictions", tmp_path / "maps", "--annotations", annotations)
    assert (code, err) == (0, "")
    expected = independent_scores(tree, "SumMe", "clip_0", maps.get)
    found = per_recording(tmp_path / "out", "maps")["clip_0"]
    for key in KEYS:
        assert found[key] == pytest.approx(expected[key], abs=tolerance), key


def promising(shape: str, data: bytes = b"") -> bytes:
    """A .npy file whose header tells a shape."""
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + data


def saved(save, *arrays: np.ndarray) -> bytes:
    content = io.BytesIO()
    save(content, *arrays)
    return content.getvalue()


def huge_png() -> bytes:
    """The first bytes of a PNG of 30000x30000 pixels."""
    small = cv2.imencode(".png", np.zeros((2, 2), np.uint8))[1].tobytes()
    head = b"IHDR" + (30_000).to_bytes(4, "big") * 2 + small[24:29]
    return small[:12] + head + zlib.crc32(head).to_bytes(4, "big") + small[33:]


BAD_MAPS = {
    "several.npy": saved(np.savez, np.eye(4)),
    "text.npy": saved(np.save, np.array([["a", "b"], ["c", "d"]])),
    "objects.npy": saved(np.save, np.array([[None]])),
    "volume.npy": saved(np.save, np.zeros((4, 4, 3))),
    "complex.npy": saved(np.save, np.eye(4) * 1j),
    "nan.npy": saved(np.save, np.full((4, 4), np.nan)),
    "nothing.npy": saved(np.save, np.zeros((0, 4))),
    "huge.npy": promising("(1000000, 1000000)"),
    "negative.npy": promising("(-4, 4)", bytes(64)),
    "deep.npy": promising("(" * 4000),
    "empty.npy": b"",
    "empty.png": b"",
    "cut.png": cv2.imencode(".png", np.eye(64, dtype=np.uint8))[1].tobytes()[:60],
    "page.png": b"<html>not found",
    "huge.png": huge_png(),
    "heatmap.png": cv2.imencode(".png", np.eye(8, dtype=np.uint8)[..., None] * [9, 99, 199])[
        1
    ].tobytes(),
}


def test_bad_maps_are_named_and_the_others_scored(evaluate, tmp_path):
    """One picture a bad map; a pipe and a good one besides."""
    images, maps = tmp_path / "set" / "images", tmp_path / "made"
    for folder in (images, tmp_path / "set" / "maps", maps):
        folder.mkdir(parents=True)
    wanted = {**BAD_MAPS, "good.npy": saved(np.save, centre(30, 40)), "pipe.png": None}
    for name, content in wanted.items():
        stem = name.replace(".", "_")
        cv2.imwrite(str(images / f"{stem}.png"), np.zeros((48, 64, 3), np.uint8))
        gaze = np.rint(255 * centre()).astype(np.uint8)
        cv2.imwrite(str(tmp_path / "set" / "maps" / f"{stem}.png"), gaze)
        path = maps / f"{stem}{Path(name).suffix}"
        if content is None:
            os.mkfifo(path)
        else:
            path.write_bytes(content)
    code, err, groups = evaluate("--images", tmp_path / "set", "--predictions", maps)
    assert code == 1
    assert groups["set"]["recordings"] == 1
    assert groups["set"]["mean"]["made"]["cc"] > 0.9
    lines = [line for line in err.splitlines() if line.startswith("error:")]
    assert len(lines) == len(wanted) - 1
    for name in wanted:
        told = [line for line in lines if str(maps / name.replace(".", "_")) in line]
        assert len(told) == (name != "good.npy"), name
    assert "unexpected" not in err
    assert err.splitlines()[-1].startswith(f"note: {len(wanted) - 1} of {len(wanted)} failed")
    assert len(err.splitlines()) == len(wanted)


def hostile_descriptions(text: str) -> dict[str, str]:
    """What somebody, or a broken disk, may make of a `saliency.json`."""
    content = json.loads(text)
    frames = content["frames"]
    changes = {
        "no list": {"frames": {"0": 1}},
        "no records": {"frames": [1, "x", None]},
        "no numbers": {"frames": [{**frame, "index": "0"} for frame in frames]},
        "times": {"frames": [{**frame, "time": float("nan")} for frame in frames]},
        "backwards": {"frames": frames[::-1]},
        "negative": {"frames": [{**frame, "index": -frame["index"]} for frame in frames]},
        "format": {"settings": {**content["settings"], "format": "../x"}},
        "settings": {"settings": 7},
    }
    texts = {name: json.dumps({**content, **change}) for name, change in changes.items()}
    deep = text.replace('"frames": [', '"frames": [' + "[" * 100_000, 1)
    return {**texts, "deep": deep, "cut": text[: len(text) // 2], "empty": "", "bytes": "\udc80"}


def test_hostile_results_are_one_line_each(
    evaluate, avsal_command, tree, tiny, tiny_weights, tmp_path
):
    stills = sorted((tree / "video_frames" / "SumMe" / "clip_0").iterdir())
    pictures = [cv2.imread(str(path))[..., ::-1] for path in stills]
    video = samples.lossless(tmp_path / "clip_0.mov", pictures)
    network = ("--model", tiny, "--weights", tiny_weights, "--device", "cpu")
    options = ("--format", "npy", "--size", "64x48", "--stride", 9)
    avsal_command("predict", video, "-o", tmp_path / "maps", *options, *network)
    path = tmp_path / "maps" / "clip_0" / "saliency.json"
    gaze = tree / "annotations" / "SumMe" / "clip_0"
    arguments = ("--predictions", tmp_path / "maps", "--annotations", gaze)
    for name, text in hostile_descriptions(path.read_text()).items():
        path.write_bytes(text.encode(errors="surrogateescape"))
        code, err, groups = evaluate(*arguments, out=name)
        assert code == 1, name
        line = one_line(err)
        assert str(path if name != "backwards" else path.parent) in line, name
        assert "unexpected" not in line, name
        assert groups == {}


def test_an_unexpected_error_stops_one_recording_only(evaluate, image_set, monkeypatch):
    from avsal.evaluation import protocol

    original = protocol.score_frame

    def failing(annotations, *rest):
        if annotations.recording.name == "p1.jpg":
            raise RuntimeError("a bug")
        return original(annotations, *rest)

    monkeypatch.setattr(protocol, "score_frame", failing)
    code, err, groups = evaluate("--images", image_set, "--baselines-only")
    assert code == 1
    assert "a bug" in one_line(err)
    assert groups["photographs"]["recordings"] == 3


@pytest.mark.parametrize("kind", ["<u2", ">u2", "<f4"])
def test_levels_of_16_bit_and_float_pictures_are_kept(kind, tmp_path):
    from avsal.datasets.pictures import read_gray

    values = (np.arange(12).reshape(3, 4) * 5000).astype(kind)
    mode = {"<u2": "I;16", ">u2": "I;16B", "<f4": "F"}[kind]
    Image.frombytes(mode, (4, 3), values.tobytes()).save(tmp_path / "map.tif")
    assert read_gray(tmp_path / "map.tif").tolist() == values.tolist()


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
    assert set(rows) == {"centre Gaussian", "uniform", "spectral residual", "inter-observer"}
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


def test_the_network_sees_a_video_as_it_is_shown(tmp_path):
    """The same maps as those of `predict`, whatever the shape of the pixels."""
    video, table = tmp_path / "wide.mp4", tmp_path / "gaze.csv"
    with VideoWriter(video, 96, 72, sample_aspect=Fraction(4, 3)) as writer:
        for index in range(5):
            writer.write(samples.numbered(index, 96, 72), Fraction(index, 25), Fraction(1, 25))
    table.write_text("time,x,y\n0.1,50,30\n")
    (recording,) = open_dataset(DatasetSpec(root=video, fixations=table))
    default = load_model()
    found = NetworkMaps(default, PredictSettings()).maps(recording, recording.frames())
    expected = default.predict(video, size="model")
    for (_tag, density), frame in zip(found, expected, strict=True):
        np.testing.assert_array_equal(density, frame.density)
    with pytest.raises(UsageError, match="sample_aspect 0: give a number above 0"):
        default.predict_frames([], fps=25, sample_aspect=0)


@pytest.mark.parametrize("network", [True, False])
def test_a_video_is_decoded_once(evaluate, watched, tiny, tiny_weights, monkeypatch, network):
    """For the network and the spectral residual together."""
    from avsal.datasets.videos import VideoRecording

    passes = []
    frames = VideoRecording.frames

    def counted(recording):
        passes.append(recording.name)
        return frames(recording)

    monkeypatch.setattr(VideoRecording, "frames", counted)
    video, table = watched
    options = ("--model", tiny, "--weights", tiny_weights, "--device", "cpu")
    evaluate(video, "--fixations", table, *(options if network else ("--baselines-only",)))
    assert passes == ["walk.mp4"]


def test_a_video_that_cannot_be_read_does_not_stop_the_others(evaluate, watched, tmp_path):
    video, table = watched
    text = samples.text(video.with_name("text.mp4"))
    header, *rows = table.read_text().splitlines()
    both = [f"{name},{row}" for name in (text.name, video.name) for row in rows]
    table = tmp_path / "both.csv"
    table.write_text("\n".join([f"video,{header}", *both]))
    arguments = (video.parent, "--fixations", table, "--baselines-only")
    code, err, groups = evaluate(*arguments)
    assert code == 1
    assert "text.mp4" in one_line(err)
    assert groups["both"]["recordings"] == 1


def test_a_malformed_table(evaluate, watched, tmp_path):
    table = tmp_path / "bad.csv"
    table.write_text("time,x\n0.1,3\n")
    code, err, _groups = evaluate(watched[0], "--fixations", table)
    assert code == 1
    assert "bad.csv" in one_line(err)
    assert "y" in one_line(err)


# ---- image sets


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
    cv2.imwrite(str(tmp_path / "maps" / "p2.png"), np.uint8(200 * centre(30, 40)))
    (tmp_path / "maps" / "p2.png").rename(tmp_path / "maps" / "p2.PNG")
    (tmp_path / "maps" / "p2.npy").unlink()
    code, err, _groups = evaluate("--images", image_set, "--predictions", tmp_path / "maps")
    assert (code, err) == (0, "")
    (tmp_path / "maps" / "p2.PNG").unlink()
    code, err, _groups = evaluate("--images", image_set, "--predictions", tmp_path / "maps")
    assert code == 1
    assert "p2" in one_line(err)


def test_progress_counts_the_frames_of_a_video(watched, tmp_path):
    """One video may take minutes: how long is told before it is over."""
    from avsal.datasets import DatasetSpec
    from avsal.evaluation.run import Evaluation, open_unfolded

    video, table = watched
    seen = []
    evaluation = Evaluation(
        tmp_path / "out",
        lambda _fold: None,
        on_frames=lambda recording, done: seen.append((done, recording.expected_frames)),
    )
    evaluation.run(open_unfolded(DatasetSpec(root=video, fixations=table)))
    assert seen == [(number, 10) for number in range(1, 11)]


def test_nothing_to_score_says_what_was_read(evaluate, watched):
    video, table = watched
    table.write_text("time,x,y\n" + "0.2,70,10\n" + "0.3,30,-5\n" + "0,0,0\n")
    code, err, groups = evaluate(video, "--fixations", table, "--baselines-only")
    assert (code, groups) == (1, {})
    assert str(table) in one_line(err)
    assert "100 % of the points for walk.mp4 are outside" in one_line(err)
    table.write_text("time,x,y\n" + "100,30,10\n" + "nan,30,10\n")
    stream = samples.raw_h264(video.with_name("endless.h264"))  # its header tells no duration
    code, err, groups = evaluate(stream, "--fixations", table, "--baselines-only")
    assert (code, groups) == (1, {})
    read = "(gaze.csv: 2 rows, observers unknown, 100.00 to 100.00 s; 1 lost, 0 outside"
    assert read in err
    assert "nothing to score" in err
