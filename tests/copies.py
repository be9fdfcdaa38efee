"""Copies of media files that are cut, damaged, repeated or laid out otherwise."""

from __future__ import annotations

import math
import random
from pathlib import Path

import av
import numpy as np


def without_header(source: Path, path: Path, cut: int = 2000) -> Path:
    """A copy without its first bytes."""
    path.write_bytes(source.read_bytes()[cut:])
    return path


def cut_off(source: Path, path: Path, share: float = 0.6) -> Path:
    """A copy of which only the first part is left."""
    data = source.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


def with_index_first(source: Path, path: Path) -> Path:
    """An MP4 remuxed so that its index precedes its media data; a cut then leaves it readable."""
    with (
        av.open(str(source)) as read,
        av.open(str(path), "w", container_options={"movflags": "faststart"}) as output,
    ):
        streams = {s.index: output.add_stream_from_template(s) for s in read.streams}
        for packet in read.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream.index]
                output.mux(packet)
    return path


def repeated(source: Path, path: Path, seconds: int, times: int) -> Path:
    """A file's packets again and again; each turn starts `seconds` after the one before."""
    with av.open(str(source)) as read, av.open(str(path), "w") as output:
        streams = {s.index: output.add_stream_from_template(s) for s in read.streams}
        written = dict.fromkeys(streams, -math.inf)  # decoding time of each stream's last packet
        for turn in range(times):
            read.seek(0)
            for packet in read.demux():
                if packet.dts is None:
                    continue
                later = round(turn * seconds / packet.time_base)
                packet.pts, packet.dts = packet.pts + later, packet.dts + later
                index = packet.stream.index
                if packet.dts > written[index]:  # sound lasts a little longer than its pictures
                    written[index], packet.stream = packet.dts, streams[index]
                    output.mux(packet)
    return path


def mostly_noise(source: Path) -> Path:
    """Copy the sound alone, with noise in all packets but the first ones."""
    path = source.with_name(f"noise_{source.name}")
    with av.open(str(source)) as whole, av.open(str(path), "w") as output:
        stream = output.add_stream_from_template(whole.streams.audio[0])
        for index, packet in enumerate(p for p in whole.demux(audio=0) if p.dts is not None):
            if index > 20:
                noise = np.random.default_rng(index).integers(0, 256, packet.size, np.uint8)
                packet.update(noise.tobytes())
            packet.stream = stream
            output.mux(packet)
    return path


def flipped(source: Path, path: Path, flips: int = 30, seed: int = 0, spare: float = 0.1) -> Path:
    """A copy with single bits flipped anywhere after the first share `spare` of the file."""
    data = bytearray(source.read_bytes())
    choose = random.Random(seed)
    for _ in range(flips):
        data[choose.randrange(int(len(data) * spare), len(data))] ^= 1 << choose.randrange(8)
    path.write_bytes(data)
    return path
