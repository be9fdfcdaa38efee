"""Scripts that leave a prediction half-way end: at their end, by an error, and after a fork."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import samples

import avsal
from avsal import cli
from avsal.__main__ import main
from avsal.errors import MediaError
from avsal.media import VideoReader
from avsal.prediction.threads import run_ahead

ROOT = Path(__file__).parents[1]
SECONDS = 60  # far more than any of these scripts takes; a hang would last for ever

BEGUN = """
from avsal.prediction.threads import run_ahead
def numbers():
    try:
        yield from range(1000)
    finally:
        print("closed", flush=True)
ahead = run_ahead(numbers, 3)
print(next(ahead), flush=True)
"""

READER = """
import sys
from avsal.media import VideoReader
from avsal.prediction.threads import run_ahead
with VideoReader(sys.argv[1]) as video:
    ahead = run_ahead(lambda: (frame.index for frame in video), 2)
    print(next(ahead), flush=True)
"""

FORKED = """
import os
import signal
child = os.fork()
try:
    count = len(list(ahead))
    told = f"{'parent' if child else 'child'} {count}"
except Exception as error:
    told = type(error).__name__
os.write(1, f"{told}\\n".encode())  # a whole line at once, whichever process writes beside it
if child:
    os.write(1, f"code {os.waitpid(child, 0)[1]}\\n".encode())
"""

# In the parent torch's layers run in several threads, which a child does not have.
FORK_AFTER_LAYERS = """
import os, torch
from avsal.prediction.threads import survive_forks
survive_forks()
torch.set_num_threads(4)
product = lambda: torch.nn.functional.conv2d(torch.ones(4, 8, 64, 64), torch.ones(8, 8, 3, 3))
product()
child = os.fork()
fine = float(product().sum()) > 0
os.write(1, f"{'parent' if child else 'child'} {fine}\\n".encode())
if child:
    os.write(1, f"code {os.waitpid(child, 0)[1]}\\n".encode())
"""


def run(script, *arguments):
    """(exit code, lines on stdout, lines on stderr) of a script; a hang fails the test."""
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
        cwd=ROOT,
    )
    return done.returncode, done.stdout.splitlines(), done.stderr.splitlines()


def test_a_script_may_end_while_a_thread_reads():
    assert run(BEGUN) == (0, ["0", "closed"], [])


def test_an_error_of_a_script_ends_it_while_a_thread_reads():
    code, out, err = run(BEGUN + "raise ValueError('a bug')")
    assert (code, out, err[-1]) == (1, ["0", "closed"], "ValueError: a bug")


def test_a_source_that_gives_nothing_any_more_does_not_keep_a_script_from_its_end():
    script = BEGUN.replace("yield from range(1000)", "yield 0; threading.Event().wait()")
    head = "import threading; from avsal.prediction import threads; threads._EXIT_SECONDS = 0.2"
    assert run(head + script) == (0, ["0"], [])


def test_a_reader_may_be_closed_while_a_thread_reads_it(tmp_path):
    clip = samples.constant_rate(tmp_path / "a.mp4", 30)
    assert run(READER, clip) == (0, ["0"], [])
    code, out, err = run(READER + "    raise KeyError('mine')", clip)
    assert (code, out, err[-1]) == (1, ["0"], "KeyError: 'mine'")


def test_what_a_closed_reader_did_not_give_is_not_missing_in_silence(tmp_path):
    with VideoReader(samples.constant_rate(tmp_path / "a.mp4", 30)) as video:
        ahead = run_ahead(lambda: (frame.index for frame in video), 2)
        assert next(ahead) == 0
    with pytest.raises(MediaError, match="closed before all of its frames were read"):
        list(ahead)


def test_a_reader_that_gave_all_its_frames_has_no_more(tmp_path):
    with VideoReader(samples.constant_rate(tmp_path / "a.mp4", 3)) as video:
        assert len(list(video)) == 3
    video.close()
    assert list(video) == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_fork_while_a_thread_reads_leaves_the_parent_whole_and_the_child_an_error():
    code, out, _err = run(BEGUN + FORKED)
    assert code == 0
    assert sorted(out) == ["0", "UsageError", "closed", "code 0", "parent 999"]


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_layers_run_in_a_forked_child():
    code, out, _err = run(FORK_AFTER_LAYERS)
    assert code == 0
    assert sorted(out) == ["child True", "code 0", "parent True"]


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_when_all_is_done_tells_its_number(name: str) -> None:
    number = getattr(signal, name)
    code = (
        "import os, signal, sys; from avsal import cli; sys.argv = ['avsal']; "
        "signal.signal(signal.SIGINT, signal.default_int_handler); "  # a background job ignores it
        f"cli._run = lambda *_: os.kill(os.getpid(), {int(number)}) or 0; cli.main()"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stderr) == (128 + number, "")


@pytest.mark.skipif(os.name != "posix", reason="POSIX signals")
def test_a_signal_while_a_library_runs_code_from_text_tells_its_number(tmp_path) -> None:
    """As named tuples and data classes do; `python -m` would end by SIGINT."""
    kill = f"os.kill(os.getpid(), {int(signal.SIGTERM)})"
    (tmp_path / "interrupted.py").write_text(
        f"import os, sys\nsys.path.append({str(ROOT)!r})\nfrom avsal import cli\n"
        f"sys.argv = ['avsal']\ncli._run = lambda *_: exec({kill!r})\ncli.main()\n"
    )
    command = [sys.executable, "-m", "interrupted"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (128 + signal.SIGTERM, "")


@pytest.fixture
def usual_handlers():
    """Python's own handlers, also where the job that runs the tests ignores Ctrl-C."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(number) for number in numbers]
    for number, handler in zip(numbers, (signal.default_int_handler, signal.SIG_DFL), strict=True):
        signal.signal(number, handler)
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.usefixtures("usual_handlers")
def test_what_a_signal_breaks_is_no_error_of_its_own(number, avsal_command, monkeypatch):
    """A library that is interrupted while it is imported raises an error of its choice."""

    def interrupted(_group):
        try:
            signal.raise_signal(number)
        except KeyboardInterrupt:
            raise ImportError("initialization failed") from None

    monkeypatch.setattr(cli, "read_defaults", interrupted)
    assert avsal_command("models") == (128 + number, "", "")


def test_ctrl_c_while_the_command_is_loaded_is_no_traceback(monkeypatch):
    class Interrupted:
        def find_spec(self, name, *_where):
            if name == "avsal.cli":
                raise KeyboardInterrupt

    monkeypatch.delitem(sys.modules, "avsal.cli")
    monkeypatch.delattr(avsal, "cli", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Interrupted(), *sys.meta_path])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 128 + signal.SIGINT
