"""Every reader on thousands of damaged files: a right result or one clear line, nothing else."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import samples
from av.codec.codec import UnknownCodecError
from PIL import Image, ImageCms
from scipy.io import savemat

HERE = Path(__file__).parent
TIMES = int(os.environ.get("AVSAL_FUZZ", "1"))  # how many times as many mutations
FIRST = int(os.environ.get("AVSAL_FUZZ_SEED", "0"))

# Mutations of each family in CI, in children of at most CHILD.
COUNTS = {
    "video": 1500,
    "still": 1000,
    "sound": 400,
    "overlay": 300,
    "result": 500,
    "weights": 500,
    "annotation": 500,
    "matlab": 800,
    "config": 200,
    "path": 300,
    "areas": 300,
}
CHILD = 500

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="limits memory as Linux does"),
]

VIDEOS = (  # name, video encoder, pixels, audio encoder and rate
    ("a.mp4", "libx264", "yuv420p", "aac", 44100),
    ("b.mp4", "libx265", "yuv420p", "libopus", 48000),
    ("c.mp4", "libsvtav1", "yuv420p", None, 0),
    ("d.mov", "mjpeg", "yuvj422p", "pcm_s16be", 16000),
    ("e.mov", "prores_ks", "yuv422p10le", None, 0),
    ("f.mkv", "libvpx-vp9", "yuv420p", "libopus", 48000),
    ("g.mkv", "ffv1", "bgra", "flac", 32000),
    ("h.webm", "libvpx", "yuv420p", "libopus", 48000),
    ("i.avi", "mpeg4", "yuv420p", "libmp3lame", 44100),
    ("j.avi", "rawvideo", "bgr24", "pcm_u8", 8000),
    ("k.ts", "mpeg2video", "yuv420p", "mp2", 44100),
    ("l.ts", "libx264", "yuv420p", "aac", 44100),
    ("m.mpg", "mpeg1video", "yuv420p", "mp2", 44100),
    ("n.flv", "flv", "yuv420p", "libmp3lame", 44100),
    ("o.wmv", "wmv2", "yuv420p", "libmp3lame", 44100),
    ("p.3gp", "h263", "yuv420p", None, 0),
    ("q.ogg", "libvpx", "yuv420p", "libopus", 48000),
    ("r.mxf", "mpeg2video", "yuv420p", None, 0),
    ("s.gif", "gif", "rgb8", None, 0),
    ("t.y4m", "wrapped_avframe", "yuv420p", None, 0),
    ("u.nut", "ffvhuff", "yuv420p", "pcm_s16le", 16000),
)


def make_video(folder: Path, name: str, codec: str, pixels: str, audio: str, rate: int) -> None:
    size = (176, 144) if codec == "h263" else (64, 48)
    images = [samples.numbered(i, *size) for i in range(10)]
    options = {"cpu-used": "8"} if codec in {"libvpx-vp9"} else {}
    sound = None
    if audio:
        wave = samples.tone(0.5, rate, channels=2)
        sound = samples.SoundTrack([(Fraction(0), wave)], rate, "stereo", audio)
    pictures = samples.Pictures(images, codec=codec, pix_fmt=pixels, options=options)
    samples.write(folder / name, pictures, sound)


def make_videos(folder: Path) -> None:
    # SVT-AV1 gives the thread that opens it a real-time priority if root runs it: that of the tests
    # and of all processes that they start, which would then keep a core for themselves.
    with ThreadPoolExecutor(1) as thread:
        for row in VIDEOS:
            try:
                thread.submit(make_video, folder, *row).result()
            except UnknownCodecError:  # no such encoder in this FFmpeg build
                (folder / row[0]).unlink(missing_ok=True)
    samples.rotated(folder / "turned.mp4", 90, mirrored=True)
    samples.interlaced(folder / "interlaced.mp4")
    samples.hidden_frames(folder / "hidden.avi", 10, [2, 3, 9])


def make_stills(folder: Path) -> None:
    picture = Image.fromarray(samples.numbered(37))
    exif = Image.Exif()
    exif[0x0112] = 5
    for suffix in ("png", "jpg", "webp", "gif", "tiff", "bmp", "avif", "jp2", "ppm", "tga"):
        picture.save(folder / f"a.{suffix}", **({} if suffix in {"jp2", "tga"} else {"exif": exif}))
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    picture.save(folder / "profile.png", icc_profile=profile)
    picture.convert("P").save(folder / "palette.png")
    picture.convert("LA").save(folder / "alpha.png")
    picture.convert("CMYK").save(folder / "cmyk.jpg")
    picture.save(folder / "lzw.tiff", compression="tiff_lzw")
    others = [Image.fromarray(samples.numbered(n)) for n in (1, 2)]
    for name in ("moving.gif", "moving.png", "moving.avif"):
        picture.save(folder / name, save_all=True, append_images=others, duration=100)
    samples.tiled_avif(folder / "tiles.avif", samples.numbered(37, 128, 64), 1, 2)


def make_sounds(folder: Path) -> None:
    for name in ("a.wav", "b.m4a", "c.mp3", "d.flac", "e.ogg", "f.aac", "g.ac3", "h.aiff"):
        codec = {".flac": "flac", ".ogg": "libopus", ".wav": "pcm_s16le", ".mp3": "libmp3lame"}
        codec |= {".ac3": "ac3", ".aiff": "pcm_s24be"}
        rate = 48000 if name == "e.ogg" else 44100
        wave = samples.tone(0.5, rate, channels=2)
        track = samples.SoundTrack(
            [(Fraction(0), wave)], rate, "stereo", codec.get(Path(name).suffix, "aac")
        )
        samples.write(folder / name, sound=track)


def make_films(folder: Path) -> None:
    for row in VIDEOS:
        if row[0] in {"a.mp4", "b.mp4", "f.mkv", "i.avi", "k.ts", "l.ts", "n.flv", "o.wmv"}:
            make_video(folder, *row)


def make_results(folder: Path) -> None:
    from test_outputs import saliency_frame, write

    frames = [saliency_frame(index) for index in range(3)]
    for kind in ("png", "png16", "npy", "video"):
        write(folder / kind, frames, format=kind)


def make_weights(folder: Path) -> None:
    import torch
    from safetensors.torch import save_file

    state = {f"layer{i}.weight": torch.arange(6.0).reshape(2, 3) for i in range(4)}
    save_file(state, folder / "a.safetensors", {"variant": "none"})
    torch.save(state, folder / "b.pt")
    torch.save({"state_dict": state}, folder / "c.pth", _use_new_zipfile_serialization=False)
    blobs = {"blobs": {name: tensor.numpy() for name, tensor in state.items()}}
    (folder / "d.pkl").write_bytes(pickle.dumps(blobs, protocol=2))


def make_annotations(folder: Path) -> None:
    rows = [f"{i / 25},{i % 7 / 7},{i % 5 / 5},{i % 2}" for i in range(20)]
    (folder / "a.csv").write_text("\n".join(["time,x,y,observer", *rows]))
    named = [f"a{i % 2}.mp4;{i / 25};0.5;0.5" for i in range(20)]
    (folder / "b.csv").write_text("\n".join(["video;time;x;y", *named]))
    hill = np.outer(np.hanning(24), np.hanning(40)).astype(np.float32)
    density = np.clip(2 * hill - 1, 0, None)  # a map, and on its ground of 0 a mask as well
    np.save(folder / "a.npy", density)
    levels = (density * 255).astype(np.uint8)
    for name in ("a.png", "a.jpg", "a.bmp", "a.tif"):
        Image.fromarray(levels).save(folder / name)
    Image.fromarray(levels.astype(np.uint16) * 256).save(folder / "b.png")


def make_matlab(folder: Path) -> None:
    mask = np.outer(np.hanning(24), np.hanning(40)) > 0.9
    record = np.zeros((1, 2), [("location", "O"), ("timestamp", "O"), ("fixations", "O")])
    record.fill((np.zeros((0, 2)), np.zeros((3, 1)), np.arange(6.0).reshape(3, 2) + 1))
    gaze = {"image": "a", "resolution": np.array([[24, 40]]), "gaze": record}
    for compressed in (False, True):
        for name, content in (("mask", {"eyeMap": mask}), ("real", {"I": mask * 1.0}), ("g", gaze)):
            savemat(folder / f"{name}{compressed:d}.mat", content, do_compression=compressed)
    savemat(folder / "old.mat", {"eyeMap": mask.astype(np.uint8)}, format="4")


def make_configs(folder: Path) -> None:
    for path in sorted((HERE.parents[1] / "examples" / "training").glob("*.toml")):
        (folder / path.name).write_bytes(path.read_bytes())


def make_paths(folder: Path) -> None:
    from gaze_maps import spot

    from avsal.crops import plan
    from avsal.crops.file import PathFile, write_path
    from avsal.crops.settings import Picture

    crops = plan([spot(0.1 + i / 20) for i in range(8)], "9:16", (64, 48), cuts=[4])
    write_path(folder / "a.json", PathFile(Picture(64, 48), "9:16", (26, 48)), crops)


def make_areas(folder: Path) -> None:
    table = "name,time,x,y,w,h,points\nlogo,,20,10,40,20,\ncar,1.5,0,0,50,50,\ncar,4,9%,0,50,50,\n"
    (folder / "a.csv").write_text(table + 'roof,,,,,,"0,0;200,0;50%,50%"\n')
    frames = [{"time": time, "box": [time, 0, "25%", 50]} for time in (1.5, 4)]
    entries = [{"name": "logo", "points": [[0, 0], [9, 0], ["5%", "5%"]]}]
    areas = {"areas": [*entries, {"name": "car", "keyframes": frames}]}
    (folder / "b.json").write_text(json.dumps(areas))


MAKERS = {
    "video": make_videos,
    "still": make_stills,
    "sound": make_sounds,
    "overlay": make_films,
    "result": make_results,
    "weights": make_weights,
    "annotation": make_annotations,
    "matlab": make_matlab,
    "config": make_configs,
    "path": make_paths,
    "areas": make_areas,
}


def run_child(family: str, folder: Path, first: int, count: int) -> tuple[Counter[str], list[str]]:
    """Verdicts of a stretch of seeds; a child that ends is followed by another."""
    verdicts: Counter[str] = Counter()
    failures = []
    end = first + count
    while first < end:
        child = subprocess.run(
            [
                sys.executable,
                HERE / "fuzz_readers.py",
                family,
                folder,
                str(first),
                str(end - first),
            ],
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        lines = child.stdout.splitlines()
        verdicts.update(line.split()[0] for line in lines if line.startswith(("right", "clear")))
        if child.returncode == 0:
            break
        begun = [line for line in lines if line.startswith("begin ")]
        if not begun:
            failures.append(f"{family}: no whole file is read: {child.stderr[-2000:]}")
            break
        seed = int(begun[-1].split()[1])
        reason = child.stderr.strip().splitlines()[-1:] or [f"signal {-child.returncode}"]
        verdicts[f"ended {child.returncode}"] += 1
        failures.append(f"{family} {begun[-1]}: exit {child.returncode}, {reason[0][:300]}")
        first = seed + 1
    return verdicts, failures


def test_damaged_files_give_a_result_or_one_line(tmp_path: Path) -> None:
    stretches = []
    for family, make in MAKERS.items():
        (tmp_path / family).mkdir()
        make(tmp_path / family)
        count = COUNTS[family] * TIMES
        stretches += [
            (family, tmp_path, FIRST + first, min(CHILD * TIMES, count - first))
            for first in range(0, count, CHILD * TIMES)
        ]
    with ThreadPoolExecutor(2) as pool:
        outcomes = list(pool.map(lambda stretch: run_child(*stretch), stretches))
    total: dict[str, Counter[str]] = {}
    for (family, *_), (verdicts, _failures) in zip(stretches, outcomes, strict=True):
        total.setdefault(family, Counter()).update(verdicts)
    print(json.dumps(total, indent=1))
    failures = [line for _, lines in outcomes for line in lines]
    assert not failures, "\n".join(failures)
    assert sum(sum(verdicts.values()) for verdicts in total.values()) >= 2000
