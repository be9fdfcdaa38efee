"""Which suffixes count as media in a folder."""

from __future__ import annotations

import av
import pytest
from av.format import ContainerFormat

from avsal.media.suffixes import MUXERS, PLAIN_STILLS, STILLS, VIDEOS, WRITABLE_STILLS

CAMERAS_AND_ARCHIVES = """
    .vob .asf .m2v .dv .f4v .3g2 .mod .tod .ogm .rm .rmvb .divx .mjpeg .mjpg .y4m .apng .qt .ts .mts
    .m2ts .m2t .mxf .wtv .264 .h264 .hevc .ivf .mpe .m1v .amv .gxf .nut .mk3d
""".split()


@pytest.mark.parametrize("suffix", CAMERAS_AND_ARCHIVES)
def test_what_cameras_and_archives_write_is_a_video(suffix: str) -> None:
    assert suffix in VIDEOS


def test_no_suffix_is_two_things() -> None:
    assert not VIDEOS & STILLS
    assert PLAIN_STILLS < STILLS
    assert set(MUXERS) <= VIDEOS and WRITABLE_STILLS <= STILLS
    for suffix in VIDEOS | STILLS:
        assert suffix.startswith(".") and suffix == suffix.lower()


@pytest.mark.parametrize("name", ["mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "h264", "hevc", "dv"])
def test_ffmpeg_s_own_suffixes_of_video_formats_are_known(name: str) -> None:
    if name not in av.formats_available:
        pytest.skip(f"this FFmpeg has no {name}")
    sound = {".m4a", ".m4b", ".isma", ".mka"}
    others = sound | {".mks", ".ism", ".psp", ".h26l"}  # subtitles, a manifest, nothing in use
    listed = {f".{suffix}" for suffix in ContainerFormat(name, "r").extensions}
    assert listed - others <= VIDEOS | STILLS
