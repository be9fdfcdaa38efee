"""What is opened: the named file or address and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import samples
from file_server import serving

from avsal.errors import MediaError
from avsal.media import AudioReader, VideoReader, VideoWriter, is_address, probe
from avsal.media.source import as_source, name_of, opening

PLAYLISTS = {
    "master.m3u8": "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{}\n",
    "live.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{}\n",
    "list.ffconcat": "ffconcat version 1.0\nfile '{}'\n",
    "manifest.mpd": '<?xml version="1.0"?>\n<MPD xmlns="urn:mpeg:dash:schema:mpd:2011">{}</MPD>',
    "session.sdp": "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns={}\r\nm=video 5004 RTP/AVP 96\r\n",
    "wm.asx": '<ASX version="3.0"><Entry><Ref href="{}"/></Entry></ASX>',
    "wm.asf": "[Reference]\r\nRef1={}\r\n",
    "winamp.pls": "[playlist]\nFile1={}\n",
    "cpl.xml": '<?xml version="1.0"?><CompositionPlaylist>{}</CompositionPlaylist>',
}


def playlist(folder: Path, name: str, target: str, suffix: str | None = None) -> Path:
    path = folder / name
    path = path if suffix is None else path.with_suffix(suffix)
    path.write_text(PLAYLISTS[name].format(target), newline="")
    return path


@pytest.mark.parametrize("suffix", [None, ".mp4"])
@pytest.mark.parametrize("name", PLAYLISTS)
def test_files_that_name_other_files_are_refused(
    tmp_path: Path, name: str, suffix: str | None
) -> None:
    video = samples.film(tmp_path / "a.ts", seconds=1)
    path = playlist(tmp_path, name, str(video), suffix)
    for read in (VideoReader, AudioReader, probe):
        with pytest.raises(MediaError, match="other files; convert it first") as caught:
            read(path)
        assert str(caught.value).startswith(f"{path}: is a")
    with pytest.raises(MediaError, match="other files; convert it first"):
        VideoWriter(tmp_path / "out.mp4", 64, 48, audio_from=path)


def test_a_playlist_with_its_kind_hidden_opens_nothing(tmp_path: Path) -> None:
    """The opener's white list holds where the look at the first bytes is deceived."""
    video = samples.film(tmp_path / "a.ts", seconds=1)
    path = tmp_path / "b.mp4"
    path.write_text(f"# no playlist\nffconcat version 1.0\nfile '{video}'\n")
    with pytest.raises(MediaError, match="not a media file"):
        VideoReader(path)


OPEN = "import sys; from avsal.media import VideoReader; VideoReader(sys.argv[1])"


@pytest.mark.parametrize(
    ("name", "siblings", "content"),
    [
        ("a.mlv", ["a.m00", "a.M00"], b"MLVI\x34\0\0\0v2.0".ljust(52, b"\0")),
        ("a.avi", ["a.m00", "a.M00"], b"MLVI\x34\0\0\0v2.0".ljust(52, b"\0")),
        ("a.Y", ["a.U", "a.V"], bytes(352 * 288)),
        ("a.y", ["a.u", "a.v"], bytes(352 * 288)),
    ],
)
def test_files_next_to_the_named_one_are_never_opened(
    tmp_path: Path, name: str, siblings: list[str], content: bytes
) -> None:
    """Opening a pipe to which nobody writes would wait for ever."""
    if not hasattr(os, "mkfifo"):
        pytest.skip("needs named pipes")
    (tmp_path / name).write_bytes(content)
    for sibling in siblings:
        if not (tmp_path / sibling).exists():  # a file system may fold case
            os.mkfifo(tmp_path / sibling)
    done = subprocess.run(
        [sys.executable, "-c", OPEN, str(tmp_path / name)],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        cwd=Path(__file__).parents[1],
    )
    assert "MediaError" in done.stderr
    assert ("MLV" in done.stderr) == content.startswith(b"MLV")


def test_demuxers_that_open_other_files_are_not_allowed() -> None:
    allowed = opening(Path("a.mp4"))[1]["format_whitelist"].split(",")
    assert {"matroska", "image2"} <= {*allowed}
    for name in ("concat", "dash", "hls", "imf", "mlv", "sdp", "vobsub", "vapoursynth", "rtsp"):
        assert name not in allowed
    assert "image2" not in opening(Path("a.Y"))[1]["format_whitelist"].split(",")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_pipes_and_devices_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.mp4")
    for path in (tmp_path / "a.mp4", Path("/dev/zero")):
        for read in (VideoReader, AudioReader):
            with pytest.raises(MediaError, match="is a pipe or a device"):
                read(path)


@pytest.mark.parametrize("kind", ["zip", "gzip", "bzip2", "xz"])
def test_archives_are_named(tmp_path: Path, kind: str) -> None:
    import bz2
    import gzip
    import lzma
    import zipfile

    path, content = tmp_path / f"film.{kind}", b"content" * 100
    compress = {"gzip": gzip.compress, "bzip2": bz2.compress, "xz": lzma.compress}
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("film.mp4", content)
    else:
        path.write_bytes(compress[kind](content))
    with pytest.raises(MediaError, match=f"is a {kind} archive; unpack it"):
        probe(path)


def test_addresses() -> None:
    assert is_address("https://a.example/b.mp4?c=1//2")
    assert as_source("HTTP://a.example/b.mp4?c=1//2") == "http://a.example/b.mp4?c=1//2"
    assert as_source(Path("https://a.example/b.mp4")) == "https://a.example/b.mp4"
    for path in (
        "a.mp4",
        "/a/b.mp4",
        "ftp://a.example/b.mp4",
        "file:///a.mp4",
        "https:",
        "c:a.mp4",
    ):
        assert not is_address(path)
        assert as_source(path) == Path(path)


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("https://a.example/b/a%20film.mp4?key=c/d.e", "a film.mp4"),
        ("https://a.example/b/../%2e%2e", "a.example"),
        ("https://a.example/..%2f..%2fetc%2f", "etc"),
        ("https://a.example/a%00b", "a.example"),
        ("https://a.example", "a.example"),
    ],
)
def test_an_address_has_a_name_that_is_a_file_name(address: str, name: str) -> None:
    assert name_of(address) == name_of(Path(address)) == name


def test_a_folder_called_like_a_protocol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("https:").mkdir()
    path = samples.constant_rate(Path("a.mp4"), frames=3).rename("https:/a.mp4")
    assert not is_address(path)
    assert probe(path).frames == 3


def test_a_video_by_its_address(tmp_path: Path) -> None:
    path = samples.film(tmp_path / "a film.mp4", seconds=1)
    with serving(tmp_path) as server:
        address = f"{server.address}/a%20film.mp4?key=1//2"
        with VideoReader(path) as near, VideoReader(address) as far:
            for ours, theirs in zip(near, far, strict=True):
                assert (ours.pts, ours.index) == (theirs.pts, theirs.index)
                assert np.array_equal(ours.image, theirs.image)
            assert far.info.path == far.path == address
        with AudioReader(path) as near, AudioReader(address) as far:
            assert np.array_equal(near.read(0, 16000), far.read(0, 16000))
        assert set(server.asked) == {"/a%20film.mp4?key=1//2"}


@pytest.mark.parametrize("mirrored", [False, True])
def test_a_turned_video_by_its_address(tmp_path: Path, mirrored: bool) -> None:
    path = samples.rotated(tmp_path / "a.mp4", 90, mirrored)
    with serving(tmp_path) as server, VideoReader(f"{server.address}/a.mp4") as far:
        assert far.info.rotation == 90
        with VideoReader(path) as near:
            for ours, theirs in zip(near, far, strict=True):
                assert np.array_equal(ours.image, theirs.image)


def test_an_avif_still_by_its_address_is_refused(tmp_path: Path) -> None:
    samples.tiled_avif(tmp_path / "a.avif", samples.numbered(37, 128, 64), 1, 2)
    with (
        serving(tmp_path) as server,
        pytest.raises(MediaError, match=r"HEIC or AVIF .*; download the file"),
    ):
        VideoReader(f"{server.address}/a.avif")


@pytest.mark.parametrize("name", ["master.m3u8", "live.m3u8", "list.ffconcat"])
def test_a_playlist_by_its_address_leads_nowhere(tmp_path: Path, name: str) -> None:
    samples.film(tmp_path / "a.ts", seconds=1)
    with serving(tmp_path) as server:
        playlist(tmp_path, name, f"{server.address}/a.ts")
        with pytest.raises(MediaError, match=r"not a media file.* address"):
            VideoReader(f"{server.address}/{name}")
        assert f"/{name}" in server.asked
        assert "/a.ts" not in server.asked


def test_what_goes_wrong_with_addresses(tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text("<!doctype html><title>A page with a player</title>" * 20)
    with serving(tmp_path) as server:
        with pytest.raises(MediaError, match=r"the server .*; check the address"):
            VideoReader(f"{server.address}/none.mp4")
        with pytest.raises(MediaError, match=r"not a media file.* address"):
            VideoReader(f"{server.address}/page.html")
    with pytest.raises(MediaError, match="cannot be read"):  # the server is gone
        VideoReader(f"{server.address}/page.html")
