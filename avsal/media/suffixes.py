"""File name suffixes: which files in a folder are media, and which formats can be written."""

from __future__ import annotations

from pathlib import Path

from avsal.errors import UsageError

# Common formats that FFmpeg reads, in lower case. Suffixes that mostly mean something else (.ogg
# for sound, .dat) are omitted, as is camera raw, which FFmpeg does not develop.
VIDEOS = frozenset(
    """
    .3g2 .3gp .3gp2 .3gpp .f4v .insv .ismv .m4v .mj2 .mov .mp4 .mqv .qt
    .ivf .mk3d .mkv .nut .ogm .ogv .ogx .webm
    .amv .asf .avi .divx .dvr-ms .flv .nsv .rm .rmvb .swf .viv .wm .wmv .wtv .xvid
    .m2p .m2t .m2ts .mod .mpe .mpeg .mpg .mts .tod .tp .trp .ts .vob .vro
    .264 .265 .266 .avc .h261 .h263 .h264 .h265 .h266 .hevc .m1v .m2v .m4e .mp2v .mpv .obu .vc1 .vvc
    .cine .dav .dif .dv .gxf .lxf .mxf .ser
    .mjpeg .mjpg .y4m
    .apng .avifs .bik .flc .fli .gif .heics .roq .smk
    """.split()
)
PLAIN_STILLS = frozenset(".bmp .jpeg .jpg .png .tif .tiff .webp".split())  # also in data sets
STILLS = PLAIN_STILLS | frozenset(
    """
    .avif .heic .heif .hif
    .j2c .j2k .jfif .jls .jp2 .jpe .jpf .jpx .jxl
    .dds .dpx .exr .hdr .ico .pam .pbm .pcx .pfm .pgm .pnm .ppm .psd .qoi .sgi .tga
    """.split()
)

# FFmpeg's muxers that keep arbitrary frame times and hold H.264, or VP9 in WebM.
MUXERS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm"}
ANIMATIONS = {".gif": "gif", ".webp": "webp"}  # moving pictures without sound, by FFmpeg's muxer
WRITABLE_STILLS = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp"})


def muxer_of(path: Path) -> str:
    """Return the name of FFmpeg's muxer for writing a video.

    Raises:
        UsageError: videos cannot be written with this suffix.
    """
    try:
        return MUXERS[path.suffix.lower()]
    except KeyError:
        known = ", ".join(MUXERS)
        raise UsageError(
            f"{path}: a video cannot be written with this suffix; use one of {known}"
        ) from None
