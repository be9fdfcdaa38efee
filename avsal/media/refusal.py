"""Why none of a file's pictures can be decoded: encrypted, too large, camera raw, or damaged."""

from __future__ import annotations

import struct
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from avsal.media.boxes import boxes, find, find_elements
from avsal.media.source import UNDEVELOPED, Source, is_raw
from avsal.media.stills import is_image

if TYPE_CHECKING:
    from typing import BinaryIO

    from av.container import InputContainer

# FFmpeg refuses pictures whose width and height, each with a margin, have a larger product.
_MAX_PIXELS, _MARGIN = (2**31 - 1) // 8, 128

ENCRYPTED = "is encrypted (copy protection) and cannot be read; name a copy that is not"

_PROTECTED_ENTRIES = frozenset({b"encv", b"drmi"})  # sample entries, ISO/IEC 14496-12 section 8.12
_SEGMENT, _TRACKS, _TRACK = 0x18538067, 0x1654AE6B, 0xAE  # Matroska, RFC 9559 section 5.1.4
_TYPE, _ENCODINGS, _ENCODING, _ENCRYPTION = 0x83, 0x6D80, 0x6240, 0x5035
_IS_VIDEO = b"\1"
_ASF_PROTECTIONS = (  # header objects: content encryption, and extended content encryption
    bytes.fromhex("fbb31122 23bdd211 b4b700a0 c955fc6e"),
    bytes.fromhex("14e68a29 2226174c b935dae0 7ee9289c"),
)
_PACKET, _SYNC = 188, 0x47  # of transport streams, ISO/IEC 13818-1 section 2.4.3.2
_PACK = 2048  # bytes of a sector of a DVD, which begins with a pack, section 2.5.3.3
_PACK_START, _VIDEO_PACKET, _SCRAMBLED = b"\0\0\1\xba", 0xE0, 0x30
_LOOKED_AT = 2**20  # bytes from the beginning of a file that are looked at for scrambling


def why_undecodable(path: Source, container: InputContainer, stream: Any, codec: str) -> str:
    """Tell in one clause why no picture of a stream can be decoded, and what to do."""
    if is_encrypted(path, container.format.name):
        return ENCRYPTED
    if _is_too_large(path, stream):
        return (
            f"its picture has more than the {_MAX_PIXELS // 10**6} million pixels that FFmpeg "
            "decodes; scale it down"
        )
    if is_raw(path):
        return UNDEVELOPED
    if codec == "webp":
        return (
            "no frame of its webp picture can be decoded; it is damaged or animated, which FFmpeg "
            "cannot decode, get it again or convert it"
        )
    kind = "picture" if is_image(container) else "video"
    return (
        f"no frame of its {codec} {kind} can be decoded; it is damaged or of an unsupported kind, "
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
        except (struct.error, StopIteration):  # cut short
            return False


def _is_too_large(path: Source, stream: Any) -> bool:
    width, height = stream.codec_context.width, stream.codec_context.height
    if not width and isinstance(path, Path):
        try:
            with warnings.catch_warnings(action="ignore"), Image.open(path) as image:
                width, height = image.size
        except Image.DecompressionBombError:  # two thirds of FFmpeg's limit
            return True
        except Exception:  # damaged files make Pillow raise almost anything
            return False
    return (width + _MARGIN) * (height + _MARGIN) > _MAX_PIXELS


def _has_protected_entry(file: BinaryIO) -> bool:
    way = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd")
    for start, end in find(file, way, 0, file.seek(0, 2)):
        for kind, _, _ in boxes(file, start + 8, end):  # after version, flags and count
            if kind in _PROTECTED_ENTRIES:
                return True
    return False


def _has_encryption(file: BinaryIO) -> bool:
    for tracks, tracks_end in find_elements(file, (_SEGMENT, _TRACKS), 0, file.seek(0, 2)):
        for track, end in find_elements(file, (_TRACK,), tracks, tracks_end):
            for kind, kind_end in find_elements(file, (_TYPE,), track, end):
                file.seek(kind)
                if file.read(kind_end - kind)[-1:] != _IS_VIDEO:
                    continue
                if any(find_elements(file, (_ENCODINGS, _ENCODING, _ENCRYPTION), track, end)):
                    return True
        return False  # further tracks are those of a file that was joined to it
    return False


def _has_protection_object(file: BinaryIO) -> bool:
    head = file.read(_LOOKED_AT)
    return any(protection in head for protection in _ASF_PROTECTIONS)


def _has_scrambled_packets(file: BinaryIO) -> bool:
    head = file.read(_LOOKED_AT)
    start = max(head.find(_SYNC), 0)
    packets = [head[at : at + 4] for at in range(start, len(head) - 4, _PACKET)]
    scrambled = sum(packet[3] >> 6 > 1 for packet in packets if packet[0] == _SYNC)
    return scrambled > len(packets) / 2  # most are pictures


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
    "mov,mp4,m4a,3gp,3g2,mj2": _has_protected_entry,
    "matroska,webm": _has_encryption,
    "asf": _has_protection_object,
    "mpegts": _has_scrambled_packets,
    "mpeg": _has_scrambled_sectors,
}
