"""A disk that is full, or read-only, at every writer: by injection, and on a real small file system where that can be.

Right is exit status 2 with one line that names the place, no row lost that was there, no temporary file left beside
what it was to become, and the same command ends well as soon as there is room.

    python tests/faults/disk.py fsync 3 calls.txt run --codec jpeg ...     the third fsync fails, and all after it
"""

from __future__ import annotations

import errno
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from outcome import Outcome
from workplace import Workplace, difference

from hvqbench.errors import HvqbenchError

KINDS = ("write", "fsync", "rename")
"""Half a file written and then no space; no space when it is flushed; read-only when it gets its name."""
COUNTED = "disk-calls"
MOUNTED_KB = 128


def hurt(place: Workplace, count: int, seed: int) -> Outcome:
    """Let *count* of all that commands write fail, chosen at random."""
    outcome = Outcome("disk, injected", "no space or read-only at a write, flush or rename, and all after it")
    rng = random.Random(seed)
    with outcome.timed():
        commands = _commands(place)
        names = list(commands)[:count]
        faults = {name: _faults(place, *commands[name][:2]) for name in names}
        outcome.counts["writers in all"] = sum(map(len, faults.values()))
        for number in range(count):
            name = names[number % len(names)]
            arguments, before, wrong = commands[name]
            kind, call = rng.choice(faults[name])
            before()
            status, said = _with_fault(place, kind, call, arguments)
            found = _judged(status, said) or _left(place) or wrong(False)
            if not found:
                status, said = place.call(arguments)
                found = wrong(True) if status == 0 else f"the same command exits with {status}: {said[-300:]}"
            outcome.add(f"{name}: told", f"{name}, {kind} {call}: {found}" if found else "")
    return outcome


def _commands(place: Workplace) -> dict[str, tuple[list[str], Callable[[], None], Callable[[bool], str]]]:
    """Arguments, what to do before, and what is wrong afterwards: with a command that failed, or that ended well."""
    root = place.root
    reference = place.whole()

    def fresh(source: str | None) -> Callable[[], None]:
        def copy() -> None:
            for name in ("full", "full-out"):
                shutil.rmtree(root / name, ignore_errors=True)
            if source:
                shutil.copytree(root / source, root / "full")
            (root / "full-out").mkdir()

        return copy

    def rows(finished: bool, complete: bool) -> str:
        try:
            found = place.rows("full")
        except HvqbenchError as error:
            return "" if "no results in" in str(error) and not (finished or complete) else str(error)
        known = reference if finished or complete else reference[reference["key"].isin(found["key"])]
        return difference(found, known.reset_index(drop=True))

    def output(finished: bool) -> str:
        found = [path for path in (root / "full-out").iterdir() if path.is_file() and not path.stat().st_size]
        return f"empty files: {found}" if found else ""

    at, image = ["--results", "full"], "images/a.png"
    coded = str(root / "coded.bin")
    place.must(["compress", image, coded, "--codec", "coarse"])
    return {
        "run": (place.sweep("full"), fresh(None), lambda finished: rows(finished, False)),
        "compact": (["store", "compact", *at], fresh("scattered"), lambda finished: rows(finished, True)),
        "score": (
            ["score", "--metric", "ms-ssim", "--dataset", "images", *at],
            fresh("whole"),
            lambda finished: rows(finished, True),
        ),
        "report": (["report", *at, "--out", "full-out"], fresh("whole"), output),
        "compress": (["compress", image, "full-out/a.bin", "--codec", "coarse"], fresh(None), output),
        "decompress": (["decompress", coded, "full-out/a.png", "--codec", "coarse"], fresh(None), output),
        "timing": (
            ["run", "--timing", "--repeats", "1", "--codec", "coarse", "--points", "4", "--dataset", "images", *at],
            fresh(None),
            lambda finished: "",
        ),
    }


def _faults(place: Workplace, arguments: list[str], before: Callable[[], None]) -> list[tuple[str, int]]:
    """All calls of a command that can fail: the kind, and its number."""
    before()
    status, said = _with_fault(place, "", 0, arguments)
    if status:
        raise RuntimeError(f"{' '.join(arguments)} exits with {status}: {said[-2000:]}")
    kinds = (place.root / COUNTED).read_text().split()
    return [(kind, number) for kind in KINDS for number in range(1, kinds.count(kind) + 1)]


def _with_fault(place: Workplace, kind: str, number: int, arguments: list[str]) -> tuple[int, str]:
    (place.root / COUNTED).unlink(missing_ok=True)
    command = [sys.executable, __file__, kind, str(number), str(place.root / COUNTED), *arguments]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=place.root, env=place.environment, timeout=300, check=False
    )
    return done.returncode, done.stderr


def _judged(status: int, said: str) -> str:
    reasons = [os.strerror(number) for number in (errno.ENOSPC, errno.EROFS)]
    lines = [line for line in said.splitlines() if any(reason in line for reason in reasons)]
    if status == 2 and len(lines) == 1 and lines[0].startswith("hvqbench: ") and "Traceback" not in said:
        return ""
    return f"exit status {status}, and it says {said[-300:]!r}"


def _left(place: Workplace) -> str:
    left = [path for name in ("full", "full-out") for path in (place.root / name).rglob(".*.tmp")]
    return f"left are {[str(path.relative_to(place.root)) for path in left]}" if left else ""


def mounted(place: Workplace) -> Outcome:
    """The same on a real file system of :data:`MOUNTED_KB` kB: full, then larger, then read-only."""
    outcome = Outcome("disk, real", f"a file system of {MOUNTED_KB} kB that fills up, and one that is read-only")
    mount = place.root / "mount"
    mount.mkdir()
    with outcome.timed():
        options = ["-t", "tmpfs", "-o", f"size={MOUNTED_KB}k", "tmpfs", str(mount)]
        done = subprocess.run(["mount", *options], capture_output=True, text=True, check=False)
        if done.returncode:
            outcome.skipped = f"none can be mounted here ({done.stderr.strip()})"
            return outcome
        try:
            _on(place, mount, outcome)
        finally:
            subprocess.run(["umount", str(mount)], check=False)
    return outcome


def _on(place: Workplace, mount: Path, outcome: Outcome) -> None:
    reference = place.whole()
    arguments = place.sweep("mount/results")

    def remount(*options: str) -> None:
        subprocess.run(["mount", "-o", ",".join(["remount", *options]), str(mount)], check=True)

    def known() -> str:
        try:
            found = place.rows("mount/results")
        except HvqbenchError as error:
            return "" if "no results in" in str(error) else str(error)
        return difference(found, reference[reference["key"].isin(found["key"])].reset_index(drop=True))

    status, said = place.call(arguments)
    wrong = _judged(status, said) or known()
    outcome.add("full: told", f"full: {wrong}" if wrong else "")
    remount("size=16m")
    status, said = place.call(arguments)
    wrong = difference(place.rows("mount/results"), reference) if status == 0 else said[-300:]
    outcome.add("with room: finished", f"with room again: {wrong}" if wrong else "")
    place.scatter("mount/scattered")
    remount("ro")
    run = [*place.sweep("mount/results"), "--rerun", "all"]
    for command in (run, ["store", "compact", "--results", "mount/scattered"]):
        status, said = place.call(command)
        wrong = _judged(status, said) or difference(place.rows(command[command.index("--results") + 1]), reference)
        outcome.add("read-only: told", f"read-only, {command[0]}: {wrong}" if wrong else "")


def _inject(failing: str, number: int, record: Path) -> None:
    """Let the call of that kind and number and all after it fail; all calls are noted in *record*."""
    calls = dict.fromkeys(KINDS, 0)
    plain_open, plain_fsync, plain_replace = Path.open, os.fsync, Path.replace

    def fails(kind: str) -> bool:
        calls[kind] += 1
        with record.open("a") as file:
            file.write(f"{kind}\n")
        return kind == failing and calls[kind] >= number

    class Filling:
        """A file that takes half of what is written, and then no more."""

        def __init__(self, file: Any) -> None:
            self._file = file

        def write(self, data: Any) -> int:
            if fails("write"):
                self._file.write(data[: len(data) // 2])
                self._file.flush()
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return int(self._file.write(data))

        def __enter__(self) -> Filling:
            return self

        def __exit__(self, *_: object) -> None:
            self._file.close()

        def __getattr__(self, name: str) -> Any:
            return getattr(self._file, name)

    def opened(self: Path, mode: str = "r", *arguments: Any, **named: Any) -> Any:
        file = plain_open(self, mode, *arguments, **named)
        return Filling(file) if self.name.endswith(".tmp") and set(mode) & set("wxa") else file

    def flush(handle: int) -> None:
        if fails("fsync"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        plain_fsync(handle)

    def rename(self: Path, target: Any) -> Path:
        if fails("rename"):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(self), None, str(target))
        return plain_replace(self, target)

    Path.open, os.fsync, Path.replace = opened, flush, rename  # type: ignore[method-assign,assignment]


if __name__ == "__main__":
    _inject(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
    from hvqbench.cli import main

    main(sys.argv[4:])
