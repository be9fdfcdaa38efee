"""Draw and sound the example clip: a talking face, a bouncing ball that thuds, and a sign.

    python examples/make_clip.py examples/talk_and_bounce.mp4

Everything is computed, so the clip belongs to the project like the code.
"""

from __future__ import annotations

import argparse
from fractions import Fraction

import av
import cv2
import numpy as np

WIDTH, HEIGHT = 640, 360  # pixels
FPS = 25
SECONDS = 6
RATE = 44_100  # Hz
BOUNCE_PERIOD = 1.2  # seconds from the floor to the floor
TALK = ((0.4, 2.4), (3.4, 5.4))  # seconds in which the face speaks
SYLLABLES = 4.5  # a second
FLOOR = 300  # y, pixels
SHIFT = 4  # sub-pixel bits of cv2's drawing functions


def point(x: float, y: float) -> tuple[int, int]:
    return round(x * 2**SHIFT), round(y * 2**SHIFT)


def circle(image: np.ndarray, x: float, y: float, radius: float, colour: tuple) -> None:
    cv2.circle(image, point(x, y), round(radius * 2**SHIFT), colour, -1, cv2.LINE_AA, SHIFT)


def ellipse(image: np.ndarray, x: float, y: float, rx: float, ry: float, colour: tuple) -> None:
    axes = (round(rx * 2**SHIFT), round(ry * 2**SHIFT))
    cv2.ellipse(image, point(x, y), axes, 0, 0, 360, colour, -1, cv2.LINE_AA, SHIFT)


def talking(time: float) -> float:
    """How loud the face speaks, 0..1, in syllables."""
    for start, end in TALK:
        if start <= time < end:
            return abs(np.sin(np.pi * SYLLABLES * (time - start)))
    return 0.0


def ball_height(time: float) -> float:
    """Height of the ball over the floor, 0..1."""
    phase = (time % BOUNCE_PERIOD) / BOUNCE_PERIOD
    return 4 * phase * (1 - phase)


def background() -> np.ndarray:
    rng = np.random.default_rng(7)
    rows = np.linspace(0, 1, HEIGHT)[:, None, None]
    wall = (1 - rows) * np.array([206, 190, 168]) + rows * np.array([168, 148, 128])
    image = np.repeat(wall, WIDTH, axis=1)
    image[FLOOR:] = np.array([96, 74, 58]) * (1 + 0.25 * (rows[FLOOR:] - rows[FLOOR]))
    grain = cv2.GaussianBlur(rng.normal(0, 14, (HEIGHT, WIDTH)), (0, 0), 3)
    image = np.clip(image + grain[:, :, None], 0, 255).astype(np.uint8)
    cv2.rectangle(image, (396, 52), (604, 132), (238, 234, 222), -1, cv2.LINE_AA)
    cv2.rectangle(image, (396, 52), (604, 132), (70, 60, 52), 3, cv2.LINE_AA)
    style = (cv2.FONT_HERSHEY_DUPLEX, 1.3, (48, 52, 80), 2, cv2.LINE_AA)
    cv2.putText(image, "LISTEN", (424, 106), *style)
    return image


def face(image: np.ndarray, time: float) -> None:
    x, y = 170 + 5 * np.sin(1.3 * time), 158 + 3 * np.sin(2.1 * time)
    skin, dark = (232, 188, 154), (58, 40, 34)
    ellipse(image, x, 330, 92, 96, (64, 92, 140))
    ellipse(image, x, y + 74, 24, 34, (214, 168, 136))
    ellipse(image, x, y - 14, 70, 82, dark)
    ellipse(image, x, y, 62, 76, skin)
    open_eyes = 0.12 if time % 2.7 > 2.58 else 1.0
    for side in (-1, 1):
        ellipse(image, x + 24 * side, y - 12, 12, 8 * open_eyes, (250, 250, 250))
        circle(image, x + 24 * side + 3 * np.sin(0.9 * time), y - 12, 5 * open_eyes, dark)
        ellipse(image, x + 24 * side, y - 30, 14, 3, dark)
    ellipse(image, x, y + 10, 6, 9, (214, 162, 130))
    ellipse(image, x, y + 40, 22, 4 + 13 * talking(time), (150, 62, 62))
    ellipse(image, x, y + 40, 17, 1 + 9 * talking(time), (72, 22, 28))


def ball(image: np.ndarray, time: float) -> None:
    height = ball_height(time)
    x, y = 470 + 60 * np.sin(0.8 * time), FLOOR + 14 - 26 - 120 * height
    ellipse(image, x, FLOOR + 18, 34 - 12 * height, 7 - 3 * height, (70, 54, 44))
    circle(image, x, y, 26, (206, 48, 44))
    circle(image, x - 8, y - 9, 7, (244, 150, 138))


def frame(time: float, canvas: np.ndarray) -> np.ndarray:
    image = canvas.copy()
    face(image, time)
    ball(image, time)
    return image


def voice(times: np.ndarray) -> np.ndarray:
    loudness = np.array([talking(t) for t in times[::64]]).repeat(64)[: times.size]
    pitch = 150 + 25 * np.sin(2 * np.pi * 0.7 * times)
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    vowels = 2.5 + 1.5 * np.sin(2 * np.pi * SYLLABLES / 2 * times)  # the formant's harmonic
    tone = sum(np.sin(k * phase) * np.exp(-((k - vowels) ** 2) / 4) for k in range(1, 12))
    return 0.3 * loudness * tone


def thuds(times: np.ndarray) -> np.ndarray:
    since = times % BOUNCE_PERIOD
    return 0.7 * np.exp(-since * 22) * np.sin(2 * np.pi * 95 * since)


def sound() -> np.ndarray:
    """Stereo: the voice to the left, the ball to the right, where they are in the picture."""
    times = np.arange(SECONDS * RATE) / RATE
    left = 0.8 * voice(times) + 0.3 * thuds(times)
    right = 0.4 * voice(times) + 0.8 * thuds(times)
    return np.clip(np.stack([left, right]), -1, 1).astype(np.float32)


def main(path: str) -> None:
    canvas = background()
    with av.open(path, "w") as container:
        video = container.add_stream("libx264", rate=FPS, options={"crf": "23"})
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        audio = container.add_stream("aac", rate=RATE, layout="stereo")
        audio.bit_rate = 64_000
        for index in range(SECONDS * FPS):
            picture = av.VideoFrame.from_ndarray(frame(index / FPS, canvas), format="rgb24")
            container.mux(video.encode(picture))
        container.mux(video.encode(None))
        samples = sound()
        for start in range(0, samples.shape[1], 1024):
            block = np.ascontiguousarray(samples[:, start : start + 1024])
            piece = av.AudioFrame.from_ndarray(block, format="fltp", layout="stereo")
            piece.sample_rate, piece.pts, piece.time_base = RATE, start, Fraction(1, RATE)
            container.mux(audio.encode(piece))
        container.mux(audio.encode(None))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", help="such as talk_and_bounce.mp4")
    main(parser.parse_args().out)
