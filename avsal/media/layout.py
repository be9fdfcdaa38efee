"""Channel layouts: which speaker each channel of a stream belongs to."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from av.audio.layout import AudioLayout
    from av.audio.stream import AudioStream

# FFmpeg lists the channels of an order that has no name, as in "3 channels (FR+FL+FC)".
_LISTED = " ("
_UNKNOWN = "NONE"  # FFmpeg's name of a channel of which nothing is known


def detach_layout(stream: AudioStream) -> tuple[str, ...]:
    """Give a stream that is not decoded yet a layout that PyAV can free; return its channels.

    A layout in an order of the file's own is a list in memory. PyAV 18 copies the pointer to it
    with every look at a layout and for every frame, and frees it each time: the process aborts.
    The first look therefore takes the list from the codec context for good.

    Returns:
        FFmpeg's name of each channel, in the order of the file: "FL", "LFE", "AMBI0", "NONE";
        nothing where the header tells no channels.
    """
    context = stream.codec_context
    layout = context.layout
    if layout.nb_channels:
        named = _LISTED not in layout.name
        context.layout = layout.name if named else unnamed_layout(layout.nb_channels)
    return tuple(channel.name for channel in layout.channels)


def unnamed_layout(channels: int) -> str:
    """Return FFmpeg's name of that many channels of which nothing more is known."""
    return f"{channels} channels"


def mixings(layout: AudioLayout, channels: tuple[str, ...]) -> Iterator[list[tuple[str, str]]]:
    """Yield filters that make a frame ready to be mixed down, the best first.

    Args:
        layout: the frame's.
        channels: the file's, as `detach_layout` returns them.
    """
    unnamed = layout.name == unnamed_layout(layout.nb_channels)
    if unnamed and layout.nb_channels == len(channels) and _UNKNOWN not in channels:
        order = "|".join(f"{index}-{name}" for index, name in enumerate(channels))
        yield [("channelmap", order)]
    yield []
    # FFmpeg has no mix of ambisonics and of counts that no layout has.
    mean = "+".join(f"{1 / layout.nb_channels}*c{index}" for index in range(layout.nb_channels))
    yield [("pan", f"mono|c0={mean}")]
