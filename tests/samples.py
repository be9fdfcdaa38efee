"""Media files made on the spot: small functions that write a file and return its path.

Pictures carry their own number (`numbered`, `number_of`), so that a test can tell frames apart
after any codec. Sounds are given as float arrays (channels, samples).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from PIL import Image

PARITY_CLIP = Path(__file__).parent / "parity" / "clip.mp4"
SHARED_CLIPS = Path(__file__).parents[2] / "shared" / "clips"
SHARED_REPRODUCERS = Path(__file__).parents[2] / "shared" / "repro"

_BITS = 8  # of a picture's number, one light or dark column each
_BOX_HEADER = 8  # bytes: size and type
_MATRIX_IN_TKHD = 40  # bytes from the end of the type to the matrix, ISO/IEC 14496-12 8.3.2


# ---- pictures


def numbered(number: int, width: int = 64, height: int = 48) -> np.ndarray:
    """RGB picture whose columns are the bits of `number` (0..255), most significant first.

    Its upper third is tinted red, so that up and down can be told apart.
    """
    image = np.full((height, width, 3), 40, np.uint8)
    edges = np.linspace(0, width, _BITS + 1).round().astype(int)
    for bit in range(_BITS):
        if number >> (_BITS - 1 - bit) & 1:
            image[:, edges[bit] : edges[bit + 1]] = 200
    image[: height // 3, :, 0] = 255
    return image


def number_of(image: np.ndarray) -> int:
    """Read the number of a `numbered` picture."""
    height, width = image.shape[:2]
    edges = np.linspace(0, width, _BITS + 1).round().astype(int)
    green = image[height // 3 :, :, 1].astype(float)
    bits = (green[:, a:b].mean() > 120 for a, b in pairwise(edges))
    return int("".join(str(int(bit)) for bit in bits), 2)


def moving_noise(number: int, width: int, height: int) -> np.ndarray:
    """RGB picture that no codec compresses to nothing; differs from number to number."""
    return np.random.default_rng(number).integers(0, 256, (height, width, 3), dtype=np.uint8)


# ---- sounds


def tone(seconds: float, rate: int = 16000, hertz: float = 440, channels: int = 1) -> np.ndarray:
    """Sine of amplitude 0.5, float32 (channels, n), the same in every channel."""
    wave = 0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)
    return np.repeat(wave[None].astype(np.float32), channels, axis=0)


def clicks(seconds: float, rate: int, at: Iterable[float], channels: int = 1) -> np.ndarray:
    """Silence with a soft click of 2 ms centred on each time, float32 (channels, n)."""
    wave = np.zeros(round(seconds * rate), np.float32)
    for time in at:
        t = np.arange(wave.size) / rate - time
        wave += 0.8 * np.exp(-((t / 0.001) ** 2)).astype(np.float32)
    return np.repeat(wave[None], channels, axis=0)


@dataclass
class SoundTrack:
    """A sound to be encoded.

    Attributes:
        parts: (start time, samples (channels, n)) stretches in order; what lies between is a gap.
        rate: samples per second.
        layout: FFmpeg's channel layout.
        codec: FFmpeg's encoder.
        format: sample format of the encoder; None for its first one.
        bit_rate: bits per second; None for the encoder's own.
    """

    parts: Sequence[tuple[Fraction, np.ndarray]]
    rate: int = 16000
    layout: str = "mono"
    codec: str = "pcm_s16le"
    format: str | None = None
    bit_rate: int | None = None


@dataclass
class Pictures:
    """A video stream to be encoded.

    Attributes:
        images: RGB, all of one size.
        times: seconds of each; None for a constant rate.
        rate: frames per second.
        codec, pix_fmt, options: FFmpeg's encoder and its settings.
        time_base: seconds; None for 1 / rate.
        aspect: ratio of width to height of a pixel; None for unknown.
        timecode: of the first one, in QuickTime.
    """

    images: Sequence[np.ndarray]
    times: Sequence[Fraction] | None = None
    rate: Fraction | int = 25
    codec: str = "libx264"
    pix_fmt: str = "yuv420p"
    options: dict[str, str] = field(default_factory=lambda: {"crf": "10", "g": "12"})
    time_base: Fraction | None = None
    aspect: Fraction | None = None
    timecode: str | None = None


# ---- writing


def write(
    path: Path,
    pictures: Pictures | None = None,
    sound: SoundTrack | None = None,
    container: str | None = None,
) -> Path:
    """Encode pictures and a sound into a file whose suffix (or `container`) names the format."""
    with av.open(str(path), "w", format=container) as output:
        packets = []
        video = _video_stream(output, pictures) if pictures else None
        audio = _audio_stream(output, sound) if sound else None
        if pictures and video:
            packets += _encoded_pictures(video, pictures)
        if sound and audio:
            packets += _encoded_sound(audio, sound)
        if video and audio:
            packets.sort(key=lambda packet: packet.dts * packet.time_base)
        for packet in packets:
            output.mux(packet)
    return path


def _video_stream(output: Any, pictures: Pictures) -> Any:
    stream = output.add_stream(pictures.codec, rate=pictures.rate, options=pictures.options)
    stream.height, stream.width = pictures.images[0].shape[:2]
    stream.pix_fmt = pictures.pix_fmt
    stream.codec_context.time_base = pictures.time_base or 1 / Fraction(pictures.rate)
    if pictures.timecode:
        stream.metadata["timecode"] = pictures.timecode
    if pictures.aspect:
        stream.codec_context.sample_aspect_ratio = pictures.aspect
    return stream


def _encoded_pictures(stream: Any, pictures: Pictures) -> list[Any]:
    time_base = stream.codec_context.time_base
    packets = []
    for index, image in enumerate(pictures.images):
        frame = av.VideoFrame.from_ndarray(image, format="rgb24")
        time = pictures.times[index] if pictures.times else index / Fraction(pictures.rate)
        frame.pts, frame.time_base = round(time / time_base), time_base
        packets += stream.encode(frame)
    return packets + stream.encode(None)


def _audio_stream(output: Any, sound: SoundTrack) -> Any:
    stream = output.add_stream(sound.codec, rate=sound.rate)
    stream.layout = sound.layout
    if sound.bit_rate:
        stream.bit_rate = sound.bit_rate
    if sound.format:
        stream.format = sound.format
    return stream


def _encoded_sound(stream: Any, sound: SoundTrack, block: int = 1024) -> list[Any]:
    packets = []
    for start, samples in sound.parts:
        for offset in range(0, samples.shape[1], block):
            interleaved = samples[:, offset : offset + block].T.reshape(1, -1)
            frame = av.AudioFrame.from_ndarray(
                np.ascontiguousarray(interleaved), format="flt", layout=sound.layout
            )
            frame.sample_rate, frame.time_base = sound.rate, Fraction(1, sound.rate)
            frame.pts = round(start * sound.rate) + offset
            packets += stream.encode(frame)
    return packets + stream.encode(None)


# ---- videos


def constant_rate(
    path: Path, frames: int = 30, rate: Fraction | int = 25, size: tuple[int, int] = (64, 48)
) -> Path:
    """H.264 with B-frames; frame i is `numbered(i)`; size is (width, height)."""
    return write(path, Pictures([numbered(i % 256, *size) for i in range(frames)], rate=rate))


def variable_rate(path: Path, times: Sequence[Fraction]) -> Path:
    """H.264 whose frames are shown at the given times (multiples of 1/12800 s)."""
    images = [numbered(i) for i in range(len(times))]
    return write(path, Pictures(images, times, time_base=Fraction(1, 12800)))


def slides(path: Path, times: Sequence[int]) -> Path:
    """H.264 and stereo Opus; pictures shown from these seconds on, the last one for a second."""
    length = times[-1] + 1
    images = [numbered(i) for i in range(length)]
    wave = tone(length, 48000, channels=2)
    sound = SoundTrack([(Fraction(0), wave)], 48000, "stereo", "libopus", "flt")
    kept = Pictures([images[second] for second in times], [Fraction(each) for each in times], 1)
    return write(path, kept, sound)


def film(path: Path, seconds: float = 2.0, rate: int = 25, sound_rate: int = 44100) -> Path:
    """H.264 and stereo AAC of the same length, with a click at every half second."""
    times = np.arange(0.5, seconds, 0.5)
    wave = clicks(seconds, sound_rate, times, channels=2)
    sound = SoundTrack([(Fraction(0), wave)], sound_rate, "stereo", "aac")
    images = [numbered(i % 256) for i in range(round(seconds * rate))]
    return write(path, Pictures(images, rate=rate), sound)


def lossless(path: Path, images: Sequence[np.ndarray], pix_fmt: str = "rgb24") -> Path:
    """PNG frames of any size in a .mov ("rgb24", "gray", "rgba"), else FFV1 in a .mkv."""
    codec = "png" if pix_fmt in {"rgb24", "gray", "rgba"} else "ffv1"
    return write(path, Pictures(images, codec=codec, pix_fmt=pix_fmt, options={}))


def rotated(path: Path, clockwise: int, mirrored: bool = False) -> Path:
    """An MP4 whose display matrix turns the stored pictures, after mirroring left and right."""
    constant_rate(path, frames=5)
    a, b, c, d = {0: (1, 0, 0, 1), 90: (0, 1, -1, 0), 180: (-1, 0, 0, -1), 270: (0, -1, 1, 0)}[
        clockwise
    ]
    if mirrored:
        a, b = -a, -b
    matrix = [a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30]
    data = bytearray(path.read_bytes())
    start = data.index(b"tkhd") + 4 + _MATRIX_IN_TKHD
    data[start : start + 36] = b"".join(value.to_bytes(4, "big", signed=True) for value in matrix)
    path.write_bytes(data)
    return path


def interlaced(path: Path, frames: int = 10) -> Path:
    """Interlaced H.264: a bar moves between the two fields of every frame, so that it combs."""
    images = []
    for index in range(frames):
        image = np.zeros((96, 128, 3), np.uint8)
        for parity in range(2):
            left = 10 + (2 * index + parity) * 4
            image[parity::2, left : left + 16] = 255
        images.append(image)
    options = {"crf": "5", "flags": "+ildct+ilme", "x264-params": "interlaced=1:tff=1"}
    return write(path, Pictures(images, options=options))


def changing_size(path: Path) -> Path:
    """A transport stream (.ts) of 10 frames of 64x48, then 10 of 96x80."""
    return joined(
        path,
        [
            Pictures([numbered(i, 64, 48) for i in range(10)]),
            Pictures(
                [numbered(i, 96, 80) for i in range(10, 20)],
                [Fraction(i, 25) for i in range(10, 20)],
            ),
        ],
    )


def joined(
    path: Path, pictures: Sequence[Pictures], sounds: Sequence[SoundTrack | None] | None = None
) -> Path:
    """A transport stream (.ts) or program stream (.vob) made of several that follow each other.

    All times are put off by a second: the muxer moves a stream whose encoder starts below 0.
    """
    data = b""
    for index, part in enumerate(pictures):
        piece = path.with_name(f"{path.stem}.{index}{path.suffix}")
        times = part.times or [i / Fraction(part.rate) for i in range(len(part.images))]
        late = replace(part, times=[time + 1 for time in times])
        sound = sounds[index] if sounds else None
        if sound:
            sound = replace(sound, parts=[(start + 1, wave) for start, wave in sound.parts])
        data += write(piece, late, sound).read_bytes()
        piece.unlink()
    path.write_bytes(data)
    return path


def remuxed(source: Path, out: Path) -> Path:
    """The same packets in another container, which may begin at another time."""
    with av.open(source) as video, av.open(out, "w") as output:
        streams = {}
        for stream in video.streams:
            streams[stream.index] = output.add_stream_from_template(stream)
        for packet in video.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream.index]
                output.mux(packet)
    return out


def raw_h264(path: Path, frames: int = 12) -> Path:
    """An elementary stream: no container, hence no times."""
    return write(path, Pictures([numbered(i) for i in range(frames)]), container="h264")


def hidden_frames(path: Path, frames: int, hidden: Sequence[int]) -> Path:
    """VP8 in AVI at 10 frames per second; the packets `hidden` (not 0) say "show nothing new"."""
    pictures = Pictures(
        [numbered(i) for i in range(frames)],
        rate=10,
        codec="libvpx",
        options={"lag-in-frames": "0", "auto-alt-ref": "0", "crf": "10", "b": "1M"},
    )
    with av.open(str(path), "w", format="avi") as output:
        stream = _video_stream(output, pictures)
        for index, packet in enumerate(_encoded_pictures(stream, pictures)):
            shown = bytearray(bytes(packet))
            if index in hidden:
                shown[0] &= ~0x10  # show_frame, RFC 6386 section 9.1
            copy = av.Packet(bytes(shown))
            copy.pts, copy.dts, copy.time_base = packet.pts, packet.dts, packet.time_base
            copy.stream, copy.is_keyframe = stream, packet.is_keyframe
            output.mux(copy)
    return path


# ---- still images


def still(path: Path, image: np.ndarray | None = None, orientation: int | None = None) -> Path:
    """A still image; RGB or RGBA (`image`), for .jpg with an Exif orientation 1..8."""
    image = numbered(37) if image is None else image
    code = cv2.COLOR_RGBA2BGRA if image.shape[2] == 4 else cv2.COLOR_RGB2BGR
    quality = [cv2.IMWRITE_JPEG_QUALITY, 98] if path.suffix in {".jpg", ".jpeg"} else []
    encoded, data = cv2.imencode(path.suffix, cv2.cvtColor(image, code), quality)
    assert encoded
    content = data.tobytes()
    if orientation is not None:
        content = content[:2] + _exif(orientation) + content[2:]
    path.write_bytes(content)
    return path


def tiled_avif(path: Path, image: np.ndarray, rows: int, columns: int) -> Path:
    """An AVIF whose picture (RGB) is made of tiles, as large ones and those of phones are."""
    height, width = image.shape[0] // rows, image.shape[1] // columns
    tiles = []
    for row, column in np.ndindex(rows, columns):
        tile = image[row * height :, column * width :][:height, :width]
        Image.fromarray(tile).save(path, quality=95, subsampling="4:4:4")
        tiles.append(path.read_bytes())
    path.write_bytes(_grid(tiles, rows, columns, width, height))
    return path


def _grid(tiles: list[bytes], rows: int, columns: int, width: int, height: int) -> bytes:
    """ISO/IEC 23008-12 section 6.6.2.3.2: item 1 is the grid, the others are its tiles."""
    count = len(tiles)
    items = range(1, count + 2)
    whole = struct.pack(">HH", columns * width, rows * height)
    data = [struct.pack(">BBBB", 0, 0, rows - 1, columns - 1) + whole]
    data += [tile[tile.index(b"mdat") + 4 :] for tile in tiles]
    codec = tiles[0].index(b"av1C") - 4
    av1c = tiles[0][codec : codec + int.from_bytes(tiles[0][codec : codec + 4], "big")]
    sizes = [(columns * width, rows * height), (width, height)]
    shapes = [_box(b"ispe", struct.pack(">III", 0, *size)) for size in sizes]
    properties = _box(b"ipco", b"".join([*shapes, av1c, _box(b"pixi", b"\0\0\0\0\3\x08\x08\x08")]))
    uses = b"".join(
        struct.pack(">HBBB", item, 2, 1, 4)
        if item == 1
        else struct.pack(">HBBBB", item, 3, 2, 0x83, 4)
        for item in items
    )
    properties += _box(b"ipma", struct.pack(">II", 0, count + 1) + uses)
    kinds = b"".join(
        _box(
            b"infe",
            struct.pack(">IHH", 2 << 24, item, 0) + (b"grid" if item == 1 else b"av01") + b"\0",
        )
        for item in items
    )
    parts = struct.pack(f">HH{count}H", 1, count, *items[1:])

    def meta(start: int) -> bytes:
        places = b""
        for item, content in zip(items, data, strict=True):
            places += struct.pack(">HHHII", item, 0, 1, start, len(content))
            start += len(content)
        boxes = [
            _box(b"hdlr", bytes(8) + b"pict" + bytes(13)),
            _box(b"pitm", struct.pack(">IH", 0, 1)),
            _box(b"iloc", struct.pack(">IHH", 0, 0x4400, count + 1) + places),
            _box(b"iinf", struct.pack(">IH", 0, count + 1) + kinds),
            _box(b"iref", bytes(4) + _box(b"dimg", parts)),
            _box(b"iprp", properties),
        ]
        return _box(b"meta", bytes(4) + b"".join(boxes))

    kind = _box(b"ftyp", b"avif\0\0\0\0avifmif1miaf")
    start = len(kind) + len(meta(0)) + _BOX_HEADER
    return kind + meta(start) + _box(b"mdat", b"".join(data))


def tiled_tiff(path: Path, gray: np.ndarray, side: int = 16) -> Path:
    """A gray picture (H, W) in tiles, as maps and scans are stored."""
    height, width = gray.shape
    padded = np.pad(gray, [(0, -height % side), (0, -width % side)])
    rows, columns = (length // side for length in padded.shape)
    tiles = padded.reshape(rows, side, columns, side).swapaxes(1, 2)
    size, count = side * side * gray.itemsize, rows * columns
    fields = {256: width, 257: height, 258: 8 * gray.itemsize, 259: 1, 262: 1, 277: 1}
    fields |= {322: side, 323: side, 324: 0, 325: 0}  # TIFF 6.0, sections 8 and 15
    lists = 8 + 2 + 12 * len(fields) + 4  # the offsets and sizes of the tiles follow the fields
    fields |= {324: lists, 325: lists + 4 * count}
    entries = [
        struct.pack("<HHII", tag, 4, count if tag in (324, 325) else 1, value)
        for tag, value in fields.items()
    ]
    offsets = [lists + 8 * count + number * size for number in range(count)]
    path.write_bytes(
        struct.pack("<2sHIH", b"II", 42, 8, len(entries))
        + b"".join(entries)
        + struct.pack(f"<I{2 * count}I", 0, *offsets, *[size] * count)
        + tiles.tobytes()
    )
    return path


def _box(kind: bytes, content: bytes) -> bytes:
    return (len(content) + _BOX_HEADER).to_bytes(4, "big") + kind + content


def _exif(orientation: int) -> bytes:
    entry = b"\x12\x01\x03\x00\x01\x00\x00\x00" + orientation.to_bytes(4, "little")
    tiff = b"II*\0\x08\0\0\0\x01\0" + entry + bytes(4)
    segment = b"Exif\0\0" + tiff
    return b"\xff\xe1" + (len(segment) + 2).to_bytes(2, "big") + segment


# ---- files that are not plain videos


def audio_only(path: Path, seconds: float = 1.0) -> Path:
    """Sound without pictures; the suffix chooses the codec (.wav, .m4a, .mp3)."""
    codec = {".wav": "pcm_s16le", ".mp3": "libmp3lame"}.get(path.suffix, "aac")
    return write(path, sound=SoundTrack([(Fraction(0), tone(seconds, 44100))], 44100, codec=codec))


def mp3_with_cover(path: Path) -> Path:
    """An MP3 whose cover art shows up as a video stream."""
    tag_body = b"\0image/jpeg\0\x03\0" + still(path.with_suffix(".jpg")).read_bytes()
    picture = b"APIC" + len(tag_body).to_bytes(4, "big") + bytes(2) + tag_body
    size = bytes(len(picture) >> shift & 127 for shift in (21, 14, 7, 0))  # 7 bits a byte
    sound = audio_only(path).read_bytes()
    if sound.startswith(b"ID3"):  # replace the muxer's own tag
        own = sum(byte << shift for byte, shift in zip(sound[6:10], (21, 14, 7, 0), strict=True))
        sound = sound[10 + own :]
    path.write_bytes(b"ID3\x03\0\0" + size + picture + sound)
    return path


def unknown_codec(path: Path) -> Path:
    """An MP4 whose video codec no FFmpeg knows."""
    constant_rate(path, frames=5)
    path.write_bytes(path.read_bytes().replace(b"avc1", b"zzzz"))
    return path


# ---- damage


def empty(path: Path) -> Path:
    """A file of 0 bytes."""
    path.write_bytes(b"")
    return path


def text(path: Path) -> Path:
    """Plain text, whatever the suffix says."""
    path.write_text("This is no video.\n" * 50)
    return path
