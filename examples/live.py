"""Predict gaze on a live picture and show the heatmap in a browser.

    python live.py camera:0                      # then open http://127.0.0.1:8000
    python live.py http://HOST/stream.mjpg       # a stream address
    python live.py talk.mp4                      # a file, at the speed at which it plays

The map is always that of the latest frame; frames that arrive while the network is busy get none.
At the end the script prints the number of maps per second and how old a picture was when its map
was ready. Only pictures are used: the sound that belongs to a map has not arrived yet.
"""

import argparse
import statistics
import threading
import time
from collections.abc import Iterator
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import cv2

import avsal
from avsal.media import VideoFrame, VideoReader
from avsal.prediction.drawing import overlay
from avsal.prediction.style import OverlayStyle


class Live:
    """Frames as they arrive, with the time at which each of them did."""

    def __init__(self, source: str, seconds: float) -> None:
        self.source = source
        self.until = time.monotonic() + seconds
        self.came: dict[int, tuple[float, VideoFrame]] = {}

    def frames(self) -> Iterator[VideoFrame]:
        given = self._camera() if self.source.startswith("camera:") else self._video()
        for frame in given:
            self.came[frame.index] = time.monotonic(), frame
            self.came.pop(frame.index - 100, None)
            yield frame
            if time.monotonic() > self.until:
                return

    def _camera(self) -> Iterator[VideoFrame]:
        camera = cv2.VideoCapture(int(self.source.removeprefix("camera:")))
        began, index = time.monotonic(), 0
        while True:
            good, image = camera.read()
            if not good:
                raise SystemExit(f"{self.source}: the camera delivers no picture")
            pts = Fraction(time.monotonic() - began).limit_denominator(90_000)
            yield VideoFrame(index, pts, Fraction(1, 30), cv2.cvtColor(image, cv2.COLOR_BGR2RGB))
            index += 1

    def _video(self) -> Iterator[VideoFrame]:
        with VideoReader(self.source) as video:
            began = time.monotonic()
            for frame in video:
                # A file waits until its frame is due; a stream comes no faster than that anyway.
                due = began + float(frame.pts - video.origin)
                time.sleep(max(0.0, due - time.monotonic()))
                yield frame


class Page(BaseHTTPRequestHandler):
    """The latest picture as an MJPEG stream, for any number of viewers."""

    jpeg = b""
    changed = threading.Condition()

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        try:
            while True:
                with self.changed:
                    self.changed.wait()
                    jpeg = Page.jpeg
                head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
                self.wfile.write(head.encode() + jpeg + b"\r\n")
        except OSError:  # the viewer has gone
            return

    def log_message(self, *_: object) -> None:
        """Say nothing of each viewer."""

    @classmethod
    def show(cls, image) -> None:
        _, encoded = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        with cls.changed:
            Page.jpeg = encoded.tobytes()
            cls.changed.notify_all()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", help="camera:N, an address or a file")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after this time")
    arguments = parser.parse_args()
    model = avsal.load_model()
    server = ThreadingHTTPServer(("127.0.0.1", arguments.port), Page)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(f"http://127.0.0.1:{server.server_port}", flush=True)

    live, ages = Live(arguments.source, arguments.seconds), []
    began = time.monotonic()
    try:
        for found in model.stream(live.frames(), "model"):
            came, frame = live.came[found.index]
            ages.append(time.monotonic() - came)
            Page.show(overlay(frame.image, found.density, OverlayStyle()))
    except KeyboardInterrupt:
        pass
    server.shutdown()
    if ages:
        rate = len(ages) / (time.monotonic() - began)
        late = sorted(ages)[int(0.95 * len(ages))]
        middle = statistics.median(ages)
        print(f"{rate:.1f} maps/s; a map's picture is {middle:.3f} s old, 95 % under {late:.3f} s")


if __name__ == "__main__":
    main()
