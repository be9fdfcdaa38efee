"""Make the README's picture of a report: measure the example clip, print the page to a picture.

    python examples/make_report_picture.py examples/report.png

It needs Chromium or Chrome (apt-get install chromium; CHROMIUM names another program). Run it again
after a change of the report or of the default weights.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

import avsal

HERE = Path(__file__).parent
PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
WIDTH, HEIGHT = 1000, 1440  # pixels: from the heading to the end of the chart of shares
WAIT = 120  # seconds


def browser() -> str:
    """The program that draws the page."""
    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, PROGRAMS)), None)
    if found is None:
        sys.exit("make_report_picture.py needs Chromium or Chrome: apt-get install chromium")
    return found


def screenshot(program: str, page: Path, picture: Path) -> None:
    """Draw the top of a page as a PNG file."""
    with tempfile.TemporaryDirectory() as profile:
        command = [
            program,
            *("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"),
            *("--force-device-scale-factor=1", f"--user-data-dir={profile}"),
            f"--window-size={WIDTH},{HEIGHT + 400}",  # headless windows show less than their size
            f"--screenshot={picture}",
            page.resolve().as_uri(),
        ]
        subprocess.run(command, check=True, capture_output=True, timeout=WAIT)
    with Image.open(picture) as image:
        top = image.convert("RGB").crop((0, 0, WIDTH, HEIGHT))
    top.save(picture, optimize=True)


def main(picture: Path) -> None:
    program = browser()
    measured = avsal.measure(HERE / "talk_and_bounce.mp4", areas_file=HERE / "areas.csv")
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "report.html"
        measured.to_html(page)
        screenshot(program, page, picture.resolve())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("picture", type=Path, help="such as examples/report.png")
    main(parser.parse_args().picture)
