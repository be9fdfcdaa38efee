"""Which files and addresses may be opened, and why some cannot be."""

from __future__ import annotations

import os
import re
import ssl
import stat
import struct
import warnings
from codecs import getincrementaldecoder
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import av
from av.format import ContainerFormat
from PIL import Image

from avsal.errors import MediaError
from avsal.media.view import (
    IS_VIDEO,
    SEGMENT,
    TRACK,
    TRACK_TYPE,
    TRACKS,
    boxes,
    elements,
    find,
    is_tiff_for_pillow,
    read_number,
)

if TYPE_CHECKING:
    from typing import BinaryIO

    from av.container import InputContainer

# First bytes of archives.
_ARCHIVES = {
    b"PK\x03\x04": "zip",
    b"\x1f\x8b": "gzip",
    b"7z\xbc\xaf": "7z",
    b"Rar!": "RAR",
    b"\xfd7zXZ": "xz",
    b"BZh": "bzip2",
}
# FFmpeg's names of two demuxers.
MOV, MATROSKA = "mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm"

# FFmpeg refuses pictures whose width and height, each plus a margin, have a larger product.
LARGEST_PICTURE, _MARGIN = (2**31 - 1) // 8, 128  # pixels

ENCRYPTED = "is encrypted (copy protection) and cannot be read; use an unprotected copy"
_PROTECTED_ENTRIES = frozenset({b"encv", b"drmi"})  # sample entries, ISO/IEC 14496-12 section 8.12
_ENCODINGS, _ENCODING, _ENCRYPTION = 0x6D80, 0x6240, 0x5035  # Matroska, RFC 9559 section 5.1.4
_ASF_PROTECTIONS = (  # header objects: content encryption, and extended content encryption
    bytes.fromhex("fbb31122 23bdd211 b4b700a0 c955fc6e"),
    bytes.fromhex("14e68a29 2226174c b935dae0 7ee9289c"),
)
_PACKET, _SYNC = 188, 0x47  # of transport streams, ISO/IEC 13818-1 section 2.4.3.2
_PACK = 2048  # bytes of a DVD sector, which begins with a pack, section 2.5.3.3
_PACK_START, _VIDEO_PACKET, _SCRAMBLED = b"\0\0\1\xba", 0xE0, 0x30
_LOOKED_AT = 2**20  # bytes at the beginning of a file that are searched for scrambling

# A file's path, or an http(s) address as a string.
Source = Path | str

# Demuxers that open the files that a file names, and one that renders text as pictures. All others
# of this FFmpeg build that read from a file, and not from a device or a network, are allowed.
_REFERRING = frozenset(
    """
    avisynth concat dash dvdvideo hls imf mlv rtsp sdp vapoursynth vobsub webm_dash_manifest
    """.split()
)

_GIF_HEAD, _PNG_HEAD = 13, 8  # bytes before a GIF's colours and a PNG's chunks
_CHUNK, _CHECKSUM = 8, 4  # bytes of a PNG's chunk: its size and type, and what follows its content
_NO_PICTURES = frozenset({"tty"})  # renders any .txt as a film of a terminal
_FROM_A_FILE = "image2"  # without a pattern, it reads only the named file, except for
_PLANE = ".y"  # luma planes: it also opens the chroma planes in the same folder
_HEAD = 512  # bytes that identify a playlist
_PLAYLISTS = (  # beginning of the text in lower case, and what it is
    (r"#extm3u", "an HLS playlist"),
    (r"ffconcat", "a list of files (ffconcat)"),
    (r"(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)?<mpd\b", "a DASH manifest"),
    (
        r"(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)?<(\w+:)?(compositionplaylist|assetmap)\b",
        "an IMF package",
    ),
    (r"(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)?<smil\b", "a SMIL playlist"),
    (r"v=0\r?\n", "a session description (SDP)"),
    (r"<asx\b|\[reference\]|asf ", "a Windows Media playlist"),
    (r"\[playlist\]", "a playlist"),
    (r"rtsptext", "a QuickTime reference"),
)

_CONVERT = "which refers to other files; convert it first: ffmpeg -i {} -c copy video.mp4"
_MAGIC_LANTERN = b"MLVI"

_DEVELOP = (
    "is a Magic Lantern recording (MLV) with parts in other files; convert it first: "
    "ffmpeg -i {} video.mp4"
)

_CAMERA_RAW = frozenset(
    """
    .3fr .arw .cr2 .cr3 .crw .dng .erf .fff .iiq .k25 .kdc .mef .mos .mrw .nef .nrw .orf .pef .raf
    .raw .rw2 .rwl .sr2 .srf .srw .x3f
    """.split()
)

UNDEVELOPED = "is a camera raw file that FFmpeg cannot develop; export it as JPEG or PNG"

_NETWORK = {
    # httpproxy: FFmpeg needs it for https addresses if the user has set a proxy.
    "protocol_whitelist": "http,https,httpproxy,tcp,tls",
    "tls_verify": "1",
    "rw_timeout": "30000000",  # microseconds without a byte
    "reconnect": "1",
    "reconnect_delay_max": "4",  # seconds
}
_HEIF_BRANDS = frozenset({"avif", "heic", "heix", "heim", "heis", "mif1", "mif2"})
_STILL_BRANDS = _HEIF_BRANDS | {"crx"}  # Canon's camera raw
_PICTURES = frozenset({"image2", "ico", "alias_pix", "brender_pix", "msp", "fits"})


def ends_inside(path: Source, format: str) -> bool:
    """Whether an animated GIF or PNG file is cut off. FFmpeg gives what there is, silently.

    Args:
        format: FFmpeg's name of the container.
    """
    check = {"gif": _ends_inside_gif, "apng": _ends_inside_png}.get(format)
    if check is None or isinstance(path, str):
        return False
    with path.open("rb") as file:
        return check(file)


def _ends_inside_gif(file: BinaryIO) -> bool:
    """Whether a GIF ends within a block; many end without the last one, which is empty."""
    head = file.read(_GIF_HEAD)
    file.seek(_colours_size(head[10]), os.SEEK_CUR)
    while (kind := file.read(1)) in (b",", b"!"):
        skipped = 1  # byte: an extension's label, or the size of codes
        if kind == b",":
            place = file.read(9)  # bytes of the picture's place and size, the last one of flags
            if len(place) < 9:
                return True
            skipped += _colours_size(place[-1])
        file.seek(skipped, os.SEEK_CUR)
        while (size := file.read(1)) > b"\0":
            file.seek(size[0], os.SEEK_CUR)
        if not size:
            return True
    return False


def _colours_size(flags: int) -> int:
    """Bytes of a GIF's table of colours."""
    return 3 * 2 ** (flags % 8 + 1) if flags & 0x80 else 0


def _ends_inside_png(file: BinaryIO) -> bool:
    place = _PNG_HEAD
    while True:
        file.seek(place)
        head = file.read(_CHUNK)
        if len(head) < _CHUNK:
            return True
        if head[4:] == b"IEND":
            return False
        place += _CHUNK + _CHECKSUM + int.from_bytes(head[:4], "big")


def why_undecodable(path: Source, container: InputContainer, stream: Any, codec: str) -> str:
    """Return in one clause why no picture of a stream can be decoded, and what to do."""
    if is_encrypted(path, container.format.name):
        return ENCRYPTED
    if _is_too_large(path, stream):
        return (
            f"its picture has more than the {LARGEST_PICTURE // 10**6} million pixels that FFmpeg "
            "decodes; scale it down"
        )
    if is_raw(path):
        return UNDEVELOPED
    if codec == "webp":
        return (
            "no frame of its webp picture can be decoded; it is damaged or animated (FFmpeg cannot "
            "decode animated webp): get it again or convert it"
        )
    kind = "picture" if is_image(container) else "video"
    if isinstance(path, str):
        return (
            f"no frame of its {codec} {kind} can be decoded; the server sends only whole files, or "
            "the file is damaged: download the file and use that"
        )
    return (
        f"no frame of its {codec} {kind} can be decoded; it is damaged or of an unsupported type: "
        "get it again or convert it"
    )


def is_encrypted(path: Source, name: str) -> bool:
    """Tell whether the pictures of a file are encrypted; `name` is that of FFmpeg's demuxer."""
    look = _LOOKS.get(name)
    if look is None or not isinstance(path, Path):
        return False
    with path.open("rb") as file:
        try:
            return look(file)
        except (struct.error, StopIteration):  # truncated
            return False


def _is_too_large(path: Source, stream: Any) -> bool:
    width, height = stream.codec_context.width, stream.codec_context.height
    if not width and isinstance(path, Path):
        try:
            with warnings.catch_warnings(action="ignore"), Image.open(path) as image:
                width, height = image.size
        except Image.DecompressionBombError:  # two thirds of FFmpeg's limit
            return True
        except Exception:  # for damaged files, Pillow raises almost anything
            return False
    return (width + _MARGIN) * (height + _MARGIN) > LARGEST_PICTURE


def _has_protected_entry(file: BinaryIO) -> bool:
    path = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd")
    for start, end in find(boxes, file, path, 0, file.seek(0, 2)):
        for kind, _, _ in boxes(file, start + 8, end):  # after version, flags and count
            if kind in _PROTECTED_ENTRIES:
                return True
    return False


def _has_encryption(file: BinaryIO) -> bool:
    for tracks, tracks_end in find(elements, file, (SEGMENT, TRACKS), 0, file.seek(0, 2)):
        for track, end in find(elements, file, (TRACK,), tracks, tracks_end):
            for kind, kind_end in find(elements, file, (TRACK_TYPE,), track, end):
                if read_number(file, kind, kind_end) != IS_VIDEO:
                    continue
                if any(find(elements, file, (_ENCODINGS, _ENCODING, _ENCRYPTION), track, end)):
                    return True
        return False  # other tracks belong to files that were appended
    return False


def _has_protection_object(file: BinaryIO) -> bool:
    head = file.read(_LOOKED_AT)
    return any(protection in head for protection in _ASF_PROTECTIONS)


def _has_scrambled_packets(file: BinaryIO) -> bool:
    head = file.read(_LOOKED_AT)
    start = max(head.find(_SYNC), 0)
    packets = [head[at : at + 4] for at in range(start, len(head) - 4, _PACKET)]
    scrambled = sum(packet[3] >> 6 > 1 for packet in packets if packet[0] == _SYNC)
    return scrambled > len(packets) / 2  # most packets are pictures


def _has_scrambled_sectors(file: BinaryIO) -> bool:
    head = file.read(_LOOKED_AT)
    sectors = [head[at : at + 21] for at in range(0, len(head) - 21, _PACK)]
    return any(
        sector.startswith(_PACK_START)
        and sector[14:17] == _PACK_START[:3]
        and sector[17] & 0xF0 == _VIDEO_PACKET
        and bool(sector[20] & _SCRAMBLED)
        for sector in sectors
    )


_LOOKS: dict[str, Callable[[BinaryIO], bool]] = {  # by the name of FFmpeg's demuxer
    MOV: _has_protected_entry,
    MATROSKA: _has_encryption,
    "asf": _has_protection_object,
    "mpegts": _has_scrambled_packets,
    "mpeg": _has_scrambled_sectors,
}


def as_source(path: str | os.PathLike[str]) -> Source:
    """Return an http(s) address as a string, and everything else as a path.

    A `Path` made from an address lacks one of two slashes, which is restored.
    """
    text = os.fspath(path)
    address = re.match(r"(https?):/(/?)([^/].*)", text, re.IGNORECASE | re.DOTALL)
    if address and (address[2] or not os.path.lexists(text)):
        return f"{address[1].lower()}://{address[3]}"
    return Path(text)


def is_address(path: str | os.PathLike[str]) -> bool:
    """Tell whether an input is an http(s) address rather than a file."""
    return isinstance(as_source(path), str)


def name_of(path: str | os.PathLike[str]) -> str:
    """Return a file's name, or the last part of an address's path, as a name for results."""
    source = as_source(path)
    if isinstance(source, Path):
        return source.name
    parts = urlsplit(source)
    name = unquote(parts.path).rstrip("/").rpartition("/")[2]
    return name if name.strip(".") and name.isprintable() else parts.hostname or "address"


def without_query(address: str) -> str:
    """Return an address without its user and query, which may contain secret keys."""
    parts = urlsplit(address)
    host = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=host, query="", fragment="").geturl()


def file_identity(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return a file's name, size and modification time, or an address without its query.

    If it is taken before the file is read, it does not match a file that replaces this one later.

    Raises:
        OSError: there is no such file.
    """
    source = as_source(path)
    if isinstance(source, str):
        return {"name": without_query(source)}
    status = source.stat()
    return {"name": source.name, "bytes": status.st_size, "modified_ns": status.st_mtime_ns}


def check_file(path: Path) -> None:
    """Refuse a path before FFmpeg opens it if it is not a regular file, empty or a playlist.

    Raises:
        MediaError: it is refused.
        OSError: the file cannot be read.
    """
    mode = path.stat().st_mode
    if stat.S_ISDIR(mode):
        raise MediaError(f"{path}: is a folder, not a media file; give a file in it")
    if not stat.S_ISREG(mode):
        raise MediaError(f"{path}: is a pipe or a device; save the video to a file and use that")
    head = _head(path)
    if not head:
        raise MediaError(f"{path}: is empty (0 bytes); copy or download it again")
    if head.startswith(_MAGIC_LANTERN):
        raise MediaError(f"{path}: {_DEVELOP.format(path)}")
    kind = playlist_kind(head)
    if kind:
        raise MediaError(f"{path}: is {kind}, {_CONVERT.format(path)}")


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_HEAD)


def is_raw(source: Source) -> bool:
    """Tell by its suffix whether a file is camera raw."""
    return isinstance(source, Path) and source.suffix.lower() in _CAMERA_RAW


def is_text(path: Path) -> bool:
    """Tell whether a file begins as UTF-8 text without control characters."""
    try:
        text = getincrementaldecoder("utf-8-sig")().decode(_head(path))
    except ValueError:
        return False
    return all(character.isprintable() or character.isspace() for character in text)


def archive_kind(path: Path) -> str | None:
    """Return the type of an archive by its first bytes; None if it is not an archive."""
    head = _head(path)
    return next((kind for start, kind in _ARCHIVES.items() if head.startswith(start)), None)


def playlist_kind(head: bytes) -> str | None:
    """Return the type of a playlist by its first bytes; None if it is not a playlist."""
    text = head.decode("utf-8-sig", errors="replace").lstrip().lower()
    for pattern, kind in _PLAYLISTS:
        if re.match(pattern, text, re.DOTALL):
            return kind
    return None


def opening(source: Source) -> tuple[str, dict[str, str]]:
    """Return FFmpeg's name of a source, and the options for opening it."""
    # The option keeps FFmpeg from reading "shot%03d.png" as a sequence of files.
    plane = name_of(source).lower().endswith(_PLANE)
    options = {"format_whitelist": _formats(not plane), "pattern_type": "none"}
    if isinstance(source, str):
        authorities = _authorities()
        return source, options | _NETWORK | ({"ca_file": authorities} if authorities else {})
    # The prefix keeps FFmpeg from reading "a:b.mp4" as a protocol.
    return f"file:{source}", options | {"protocol_whitelist": "file"}


@lru_cache
def _formats(pictures_by_name: bool) -> str:
    names = filter(_reads_one_file, av.formats_available)
    return ",".join(sorted([*names, _FROM_A_FILE] if pictures_by_name else names))


def _reads_one_file(name: str) -> bool:
    if name in _REFERRING or name in _NO_PICTURES:
        return False
    try:
        return not ContainerFormat(name, "r").no_file
    except ValueError:  # can only be written
        return False


def _authorities() -> str | None:
    """Return the file of the certificates that this machine trusts; FFmpeg comes with none."""
    known = ssl.get_default_verify_paths().cafile
    if known is None:
        try:
            import certifi
        except ImportError:
            return None
        known = certifi.where()
    return known


def is_image(container: InputContainer) -> bool:
    """Tell whether a container is a still image."""
    name = container.format.name  # most of FFmpeg's image demuxers are png_pipe, jpeg_pipe, ...
    return name.endswith("_pipe") or name in _PICTURES or _brand(container) in _STILL_BRANDS


def is_for_pillow(source: Source, container: InputContainer) -> bool:
    """Tell whether Pillow decodes a still image, not FFmpeg: HEIC, AVIF and some kinds of TIFF."""
    if container.format.name == "tiff_pipe":
        return isinstance(source, Path) and is_tiff_for_pillow(source)
    return _brand(container) in _HEIF_BRANDS


def _brand(container: InputContainer) -> str:
    return container.metadata.get("major_brand", "").strip()
