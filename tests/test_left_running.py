"""Nothing that a run started is left when it ends, in whatever way; and nothing that it started can hold it for ever.

What a run started is known by its descendants, taken while it runs; only these are looked at, and ended.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import pytest

import hvqbench
from hvqbench.adapters.process import run_program
from hvqbench.bench.process import Process
from hvqbench.bench.task import WorkerError
from hvqbench.errors import HvqbenchError
from hvqbench.image import write_image
from hvqbench.lineage import VARIABLE, end, is_dead, line, own_identity
from hvqbench.time_limit import time_limit

ROOT = str(Path(hvqbench.__file__).parents[1])
PROGRAM = """
import os, shutil, subprocess, sys, time
mode, source, target = sys.argv[1:]
child = [sys.executable, "-c", "import time; time.sleep(3000)"]
if mode == "hang":
    subprocess.Popen(child)
    subprocess.Popen(child, start_new_session=True)
    open(__file__ + ".started", "w").close()
    time.sleep(3000)
if mode == "leave":
    started = [subprocess.Popen(child).pid, subprocess.Popen(child, start_new_session=True).pid]
    with open(__file__ + ".pids", "a") as file:
        print(*started, file=file)
shutil.copy(source, target)
"""
COMMAND = """
adapter = "command"
summary = "test"
points = [1]
point_name = "q"
[options]
encode = "{python} {folder}/program.py {mode} {{input}} {{output}}"
decode = "{python} {folder}/program.py copy {{input}} {{output}}"
input = "ppm"
"""
ADAPTER = """
import os, signal, time
from pathlib import Path
import numpy as np
from hvqbench.codec import Bitstream, Codec, Stream

HERE = Path(__file__).parent

class Plain(Codec):
    def encode(self, image, point):
        data = np.array(image.shape[:2], "<u2").tobytes() + image.tobytes()
        {encode}
        return Bitstream(data, {{"payload": Stream(len(data))}})

    def decode(self, data):
        height, width = np.frombuffer(data[:4], "<u2")
        image = np.frombuffer(data[4:], np.uint8).reshape(height, width, 3).copy()
        {decode}
        return image
"""
HANG = "(HERE / 'started').touch(); time.sleep(3000)"
FORK_AND_DIE = "\n        ".join(
    [
        "if os.fork() == 0:",
        "    os.setsid()",
        "    (HERE / 'pids').write_text(str(os.getpid()))",
        "    time.sleep(3000)",
        "while not (HERE / 'pids').exists(): time.sleep(0.01)",
        "os.kill(os.getpid(), 9)",
    ]
)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a temporary directory of its own and an image."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("PYTHONPATH", ROOT)
    monkeypatch.setattr("tempfile.tempdir", None)
    (tmp_path / "images").mkdir()
    write_image(tmp_path / "images" / "a.png", np.random.default_rng(1).integers(0, 256, (9, 11, 3), np.uint8))
    return tmp_path


@pytest.fixture
def watched() -> Iterator[list[psutil.Process]]:
    """Processes that are ended after the test if it failed to see to that."""
    processes: list[psutil.Process] = []
    yield processes
    for process in processes:
        if lives(process):
            process.kill()


def command_codec(home: Path, mode: str) -> str:
    folder = home / "external"
    folder.mkdir()
    (folder / "program.py").write_text(PROGRAM)
    (folder / "codec.toml").write_text(COMMAND.format(python=sys.executable, folder=folder, mode=mode))
    return str(folder)


def python_codec(home: Path, encode: str = "pass", decode: str = "pass") -> str:
    folder = home / "internal"
    folder.mkdir()
    (folder / "adapter.py").write_text(ADAPTER.format(encode=encode, decode=decode))
    (folder / "codec.toml").write_text('summary = "test"\npoints = [1, 2]\npoint_name = "q"\n')
    return str(folder)


def start(codec: str, *more: str) -> subprocess.Popen[str]:
    arguments = ["run", "--codec", codec, "--dataset", "images", "--metric", "psnr", "--results", "results", *more]
    heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # what runs in the background inherits SIGINT ignored
    return subprocess.Popen(
        [sys.executable, "-m", "hvqbench", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        preexec_fn=heard,
    )


def lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def until(true: Callable[[], object], seconds: float = 60) -> bool:
    deadline = time.monotonic() + seconds
    while not true() and time.monotonic() < deadline:
        time.sleep(0.05)
    return bool(true())


def named(*pids: int) -> list[psutil.Process]:
    found = []
    for pid in pids:
        if psutil.pid_exists(pid):
            found.append(psutil.Process(pid))
    return found


# However the run ends


@pytest.mark.parametrize("kind", ["external", "internal"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_a_run_that_is_ended_leaves_nothing(
    home: Path, watched: list[psutil.Process], kind: str, number: signal.Signals
) -> None:
    codec = command_codec(home, "hang") if kind == "external" else python_codec(home, encode=HANG)
    run = start(codec)
    assert until(lambda: list(home.glob(f"{kind}/*started"))), run.communicate(timeout=5)
    watched += psutil.Process(run.pid).children(recursive=True)
    assert len(watched) >= (6 if kind == "external" else 3)  # workers, watchman, and the program with its two children
    begin = time.monotonic()
    if number == signal.SIGINT:
        os.killpg(run.pid, number)  # as a terminal does
    else:
        os.kill(run.pid, number)
    said, _ = run.communicate(timeout=30)
    assert run.returncode == (-9 if number == signal.SIGKILL else 128 + number)
    assert time.monotonic() - begin < 10
    assert until(lambda: not any(map(lives, watched)), 10), [p.cmdline() for p in watched if lives(p)]
    assert until(lambda: not list((home / "tmp").glob("hvqbench-*")), 10)
    if number != signal.SIGKILL:
        assert said == "hvqbench: interrupted; what was finished is kept, and the same command goes on\n"


def test_a_worker_that_is_killed_takes_its_program_with_it(home: Path, watched: list[psutil.Process]) -> None:
    run = start(command_codec(home, "hang"))
    assert until(lambda: list(home.glob("external/*started")))
    watched += psutil.Process(run.pid).children(recursive=True)
    programs = [process for process in watched if "program.py" in " ".join(process.cmdline())]
    worker = programs[0].parent()
    assert worker is not None
    below = worker.children(recursive=True)
    assert len(below) == 3
    worker.kill()
    assert until(lambda: not any(map(lives, below)), 10)
    said, _ = run.communicate(timeout=60)
    assert run.returncode == 1
    assert "the encoder process was killed by SIGKILL" in said


def test_a_second_signal_ends_it_at_once(home: Path) -> None:
    script = (
        "import time\n"
        "from hvqbench.interrupts import interruptible\n"
        "with interruptible():\n"
        "    try:\n"
        "        print('ready', flush=True)\n"
        "        time.sleep(60)\n"
        "    finally:\n"
        "        print('cleaning', flush=True)\n"
        "        time.sleep(60)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    assert process.stdout.readline() == "cleaning\n"
    process.send_signal(signal.SIGINT)
    assert process.wait(10) == 130
    process.stdout.close()


def test_an_ignored_signal_stays_ignored() -> None:
    script = (
        "import os, signal\n"
        "from hvqbench.interrupts import interruptible\n"
        "signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"  # as nohup does
        "with interruptible():\n"
        "    os.kill(os.getpid(), signal.SIGHUP)\n"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_the_next_run_ends_what_a_dead_one_left(home: Path, watched: list[psutil.Process]) -> None:
    sleep = [sys.executable, "-c", "import time; time.sleep(3000)"]
    dead = subprocess.run(
        [sys.executable, "-c", "from hvqbench.lineage import own_identity; print(own_identity())"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    assert is_dead(dead)
    assert not is_dead(own_identity())
    assert not is_dead(dead.replace("-", "x-", 1))  # of another machine: nobody can tell
    left = subprocess.Popen(sleep, env=os.environ | {VARIABLE: f"{dead}/3"}, start_new_session=True)
    mine = subprocess.Popen(sleep, env=os.environ | {VARIABLE: f"{line()}/0"}, start_new_session=True)
    watched += [psutil.Process(left.pid), psutil.Process(mine.pid)]
    folders = [home / "tmp" / f"hvqbench-{identity}-abc" for identity in (dead, own_identity(), "foreign")]
    for folder in folders:
        folder.mkdir()
    subprocess.run([sys.executable, "-c", "from hvqbench.watchman import start_watchman as w; w()"], check=True)
    assert left.wait(10) == -9
    assert until(lambda: not folders[0].exists(), 10)
    assert mine.poll() is None
    assert folders[1].is_dir()
    assert folders[2].is_dir()
    end(f"{line()}/0")
    assert mine.wait(5) == -9


# What a program or a codec leaves


def test_what_a_program_started_ends_with_it(home: Path, watched: list[psutil.Process]) -> None:
    run = start(command_codec(home, "leave"))
    said, _ = run.communicate(timeout=60)
    assert run.returncode == 0, said
    pids = [int(pid) for pid in (home / "external" / "program.py.pids").read_text().split()]
    assert len(pids) == 4  # an encode that warms up, and one that counts
    watched += named(*pids)
    assert not any(map(lives, watched))


@pytest.mark.parametrize("adopting", [False, True])
def test_it_has_ended_when_the_call_returns(home: Path, watched: list[psutil.Process], adopting: bool) -> None:
    """In a process that adopts orphans nothing is left at all; in another one, a session of its own is for later."""
    command_codec(home, "leave")
    (home / "source").touch()
    adopt = "lineage.adopt_orphans()" if adopting else ""
    script = (
        f"import sys, time, psutil\nfrom pathlib import Path\nfrom hvqbench import lineage\n{adopt}\n"
        "from hvqbench.adapters.process import run_program\n"
        "program = [sys.executable, 'external/program.py', 'leave', 'source', 'target']\n"
        "assert run_program(program, '.', Path('log'), 60) == (0, '')\n"
        "pids = [int(pid) for pid in Path('external/program.py.pids').read_text().split()]\n"
        "def lives(pid): return psutil.pid_exists(pid) and psutil.Process(pid).status() != 'zombie'\n"
        "time.sleep(0.3)\n"
        "print(*map(lives, pids))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    pids = [int(pid) for pid in (home / "external" / "program.py.pids").read_text().split()]
    watched += named(*pids)
    assert done.stdout == f"False {not adopting}\n"
    assert until(lambda: not any(map(lives, watched)), 10)


def test_a_program_that_takes_too_long_takes_all_with_it(home: Path, watched: list[psutil.Process]) -> None:
    command_codec(home, "hang")
    program = [sys.executable, str(home / "external" / "program.py"), "hang", "a", "b"]
    with pytest.raises(subprocess.TimeoutExpired):
        run_program(program, home, home / "log", 3)
    assert not [process for process in psutil.Process().children(recursive=True) if lives(process) and _sleeps(process)]


def _sleeps(process: psutil.Process) -> bool:
    return "time.sleep(3000)" in " ".join(process.cmdline())


def test_a_codec_that_forks_and_dies_does_not_hold_the_run(home: Path, watched: list[psutil.Process]) -> None:
    codec = python_codec(home, decode=FORK_AND_DIE)
    begin = time.monotonic()
    rows = hvqbench.run(codec, home / "images", metrics=["psnr"], results=home / "results", points=[1], progress=False)
    assert time.monotonic() - begin < 60
    watched += named(int((home / "internal" / "pids").read_text()))
    assert list(rows["status"]) == ["failed"]
    assert rows["reason"].str.contains("process was killed by SIGKILL").all()
    assert not any(map(lives, watched))


def test_a_fork_that_goes_on_does_not_answer_for_its_parent(home: Path) -> None:
    codec = python_codec(home, encode="os.fork()")
    rows = hvqbench.run(codec, home / "images", metrics=["psnr"], results=home / "results", progress=False)
    assert list(rows["status"]) == ["ok", "ok"]


# Time limits


def test_a_codec_that_hangs_is_a_failed_row(home: Path) -> None:
    codec = python_codec(home, encode="time.sleep(3000 if point == 2 else 0)")
    run = start(codec, "--timeout", "6")
    said, _ = run.communicate(timeout=90)
    assert run.returncode == 1
    rows = hvqbench.read_results(home / "results").set_index("point")
    assert list(rows["status"]) == ["ok", "failed"]
    assert rows.loc[2, "reason"] == "encoder: no answer after 6 s, so it was ended; --timeout gives more time"
    assert "no answer after 6 s" in said


def test_the_process_that_hung_is_replaced(home: Path) -> None:
    codec = python_codec(home, encode="time.sleep(3000 if point == 2 else 0)")
    image = hvqbench.load_dataset(home / "images").images[0]
    process = Process("encoder", threads=1, timeout_s=6)
    try:
        before = None
        for point, fine in ((1, True), (2, False), (1, True)):
            if fine:
                assert process.call(codec, "cpu", image, point).data
                assert process.pid != before
                before = process.pid
            else:
                with pytest.raises(WorkerError, match="no answer after 6 s"):
                    process.call(codec, "cpu", image, point)
    finally:
        process.close()


def test_a_call_that_hangs_while_it_is_timed_is_a_failed_row(home: Path) -> None:
    codec = python_codec(home, encode="time.sleep(3000 if point == 2 else 0)")
    run = start_timing(codec, "3")
    said, _ = run.communicate(timeout=90)
    assert run.returncode == 1, said
    assert "encoding a by internal at 2 took more than 3 s; --timeout gives more time" in said


def test_a_time_limit_gives_back_the_timer_that_it_found() -> None:
    signal.signal(signal.SIGALRM, before := signal.getsignal(signal.SIGALRM))
    outer = signal.getitimer(signal.ITIMER_REAL)[0]
    with pytest.raises(HvqbenchError, match=r"sleeping took more than 0\.1 s"), time_limit(0.1, "sleeping"):
        time.sleep(60)
    assert signal.getsignal(signal.SIGALRM) is before
    assert signal.getitimer(signal.ITIMER_REAL)[0] == pytest.approx(outer, abs=1)


def test_a_timed_call_that_cannot_be_interrupted_ends_the_pass(home: Path) -> None:
    # A loop of C that holds the interpreter's lock and looks at no signal.
    run = start_timing(python_codec(home, encode="sum(range(10**14 if point == 2 else 1))"), "1")
    said, _ = run.communicate(timeout=90)
    assert run.returncode == 1
    assert "Timeout (0:00:11)!\n" in said
    assert re.search(r"internal/adapter.py\", line \d+ in encode", said)


def start_timing(codec: str, timeout: str) -> subprocess.Popen[str]:
    arguments = ["run", "--timing", "--codec", codec, "--dataset", "images", "--results", "results"]
    return subprocess.Popen(
        [sys.executable, "-m", "hvqbench", *arguments, "--repeats", "1", "--timeout", timeout],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.parametrize("value", ["0", "-1", "nan", "1e9"])
def test_a_limit_that_is_none_is_told(home: Path, value: str) -> None:
    run = start("jpeg", "--timeout", value)
    said, _ = run.communicate(timeout=60)
    assert run.returncode == 2
    assert "it must be above 0 and at most" in said
