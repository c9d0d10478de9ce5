"""SIGKILL at a random moment of run, compact, score and report.

Right is: what was finished is there, and whole; nothing of it runs on, and no temporary folder stays; the same command
then ends well, with the rows (or the files) of a run that nothing hurt, and removes what was half written.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
from outcome import Outcome
from workplace import Workplace, difference

import hvqbench
from hvqbench.errors import HvqbenchError

PATIENCE_S = 10.0
COMMANDS = ("run", "compact", "score", "report")


@dataclass(frozen=True)
class _Command:
    arguments: list[str]
    before: Callable[[], None]
    wrong: Callable[[bool], str]
    """What is wrong in the results now; told whether the command has ended well."""
    seconds: float


def kill(place: Workplace, count: int, seed: int) -> Outcome:
    """*count* kills, of each command in turn."""
    outcome = Outcome("kills", f"kill -9 of {', '.join(COMMANDS)}")
    rng = random.Random(seed)
    with outcome.timed():
        commands = _commands(place, COMMANDS[:count])
        for number in range(count):
            name = COMMANDS[number % len(COMMANDS)]
            after = rng.uniform(0, 1.1 * commands[name].seconds)
            ended, wrong = _once(place, commands[name], after)
            what = f"{name} {'had ended' if ended else 'killed'}"
            outcome.add(what, f"{name} killed after {after:.3f} s: {wrong}" if wrong else "")
    return outcome


def _once(place: Workplace, command: _Command, after: float) -> tuple[bool, str]:
    """Whether it had ended before it was killed, and what is wrong."""
    command.before()
    process = place.start(command.arguments)
    started: set[psutil.Process] = set()
    deadline = time.monotonic() + after
    while time.monotonic() < deadline and process.poll() is None:
        started |= _below(process.pid)
        time.sleep(0.01)
    ended = process.poll() is not None
    started |= _below(process.pid)
    if not ended:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    wrong = _left(place, started) or command.wrong(False)
    if not wrong:
        status, said = place.call(command.arguments)
        wrong = f"the same command exits with {status}: {said[-300:]}" if status else command.wrong(True)
    if not wrong and (left := list(place.root.glob("hurt/**/.*.tmp"))):
        wrong = f"{len(left)} half-written files stay"
    return ended, wrong


def _below(pid: int) -> set[psutil.Process]:
    try:
        return set(psutil.Process(pid).children(recursive=True))
    except psutil.Error:
        return set()


def _left(place: Workplace, started: set[psutil.Process]) -> str:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        running = [process for process in started if _lives(process)]
        folders = list((place.root / "tmp").glob("hvqbench-*"))
        if not running and not folders:
            return ""
        time.sleep(0.05)
    for process in running:
        process.kill()
    return f"{len(running)} processes run on, {len(folders)} temporary folders stay"


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _commands(place: Workplace, names: Sequence[str]) -> dict[str, _Command]:
    """Each of *names* with what it starts from, made and timed by doing it once."""
    root = place.root
    reference = place.whole()

    def empty() -> None:
        shutil.rmtree(root / "hurt", ignore_errors=True)

    def start_from(source: str) -> Callable[[], None]:
        def copy() -> None:
            empty()
            shutil.copytree(root / source, root / "hurt")

        return copy

    def lost(finished: bool, complete: bool) -> str:
        """What is wrong with the rows; *complete*: they are all there from the beginning."""
        try:
            rows = place.rows("hurt")
        except HvqbenchError as error:
            return "" if not complete and not finished and "no results in" in str(error) else str(error)
        raw = len(hvqbench.read_results(root / "hurt", history=True))
        if raw != len(rows):
            return f"{raw} rows, of which {len(rows)} count"
        if complete or finished:
            return difference(rows, reference)
        known = reference[reference["key"].isin(rows["key"])].reset_index(drop=True)
        return difference(rows, known)

    def unscored(finished: bool) -> str:
        wrong = lost(finished, complete=True)
        table = hvqbench.read_results(root / "hurt")
        if wrong or not finished:
            return wrong
        scored = table["metrics"].str.contains("ms-ssim").all()
        return "" if scored else "score ended well, and rows lack its metric"

    def unreported(finished: bool) -> str:
        wrong = lost(finished, complete=True)
        made = {path.name: path for path in (root / "hurt-report").glob("*") if path.is_file()}
        kept = {path.name: path for path in (root / "report").glob("*")}
        if finished and made.keys() ^ kept.keys():
            return f"files differ: {sorted(made.keys() ^ kept.keys())}"
        others = [name for name in made if not name.startswith(".") and not _equal(made[name], kept.get(name))]
        return wrong or (f"not whole: {others}" if others else "")

    def report() -> None:
        start_from("whole")()
        shutil.rmtree(root / "hurt-report", ignore_errors=True)

    hurt = ["--results", "hurt"]
    score = ["score", "--metric", "ms-ssim", "--dataset", "images", *hurt]
    if "report" in names:
        place.must(["report", "--results", "whole", "--out", "report"])
    plans: dict[str, tuple[list[str], Callable[[], None], Callable[[bool], str]]] = {
        "run": (place.sweep("hurt"), empty, lambda finished: lost(finished, complete=False)),
        "compact": (["store", "compact", *hurt], start_from("scattered"), lambda finished: lost(finished, True)),
        "score": (score, start_from("whole"), unscored),
        "report": (["report", *hurt, "--out", "hurt-report"], report, unreported),
    }
    commands = {}
    for name in names:
        arguments, before, wrong = plans[name]
        before()
        start = time.monotonic()
        place.must(arguments)
        commands[name] = _Command(arguments, before, wrong, time.monotonic() - start)
        if reason := wrong(True):
            raise RuntimeError(f"{name}, which nothing hurt: {reason}")
    return commands


def _equal(one: Path, other: Path | None) -> bool:
    return other is not None and one.read_bytes() == other.read_bytes()
