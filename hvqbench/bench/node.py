"""A node's part of a run on a cluster: the actor that holds a team there, and measures only what was planned."""

from __future__ import annotations

import os
import platform
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib import metadata
from typing import Any

import hvqbench
from hvqbench.bench.executor import Team
from hvqbench.bench.plan import Entry, check_device, find_codec, library_versions, metric_versions
from hvqbench.bench.process import TIMEOUT_S
from hvqbench.bench.rows import Row
from hvqbench.bench.task import Task, WorkerError
from hvqbench.catalog import CATALOG_VARIABLE
from hvqbench.codec import Image
from hvqbench.data import ImageFile
from hvqbench.errors import HvqbenchError
from hvqbench.image import read_image
from hvqbench.scratch import scratch_folder


@dataclass(frozen=True)
class CarriedImage(ImageFile):
    """An image that comes with its file's bytes."""

    data: bytes = b""

    def read(self) -> Image:
        with scratch_folder() as folder:
            file = folder / self.path.name
            file.write_bytes(self.data)
            return self.checked(read_image(file))


class NodeTeam:
    """The actor: a team on the machine that it is on."""

    def __init__(self, threads: int, folder: str, catalog: str, timeout_s: float = TIMEOUT_S) -> None:
        with suppress(OSError):  # a codec may be named by a relative path; what is not there says so itself
            os.chdir(folder)
        os.environ[CATALOG_VARIABLE] = catalog
        self._team = Team(threads, timeout_s)
        self._circumstances: Row = {"host": platform.node(), "threads": threads}
        self._entries: dict[str, Entry] = {}
        self._refusals: dict[tuple[str, str, str, str], str] = {}

    def greet(self) -> tuple[str, str]:
        return platform.node(), hvqbench.__version__

    def call(self, role: str, *request: Any) -> tuple[bool, Any]:
        """Whether it went well, and the answer or the reason."""
        try:
            return True, self._team.call(role, *request)
        except WorkerError as error:
            return False, str(error)

    def measure(self, task: Task, image: CarriedImage, stored: bytes | None) -> tuple[Row, bytes | None]:
        """The row says of which machine it is."""
        task = replace(task, image=image)
        if reason := self._refusal(task):
            return self._circumstances | task.row("failed", f"on {platform.node()}: {reason}"), None
        row, stream = self._team.measure(task, stored)
        own = self._circumstances | {"libraries": library_versions(self._entries[task.source].codec)}
        return own | row, stream  # the row of an earlier encoding keeps its own

    def close(self) -> None:
        self._team.close()

    def _refusal(self, task: Task) -> str:
        """Why this machine cannot make the row that the plan asks for; looked at once."""
        asked = task.source, task.fingerprint, task.device, str(sorted(task.metrics.items()))
        if asked not in self._refusals:
            try:
                self._refusals[asked] = self._compare(task)
            except HvqbenchError as error:
                self._refusals[asked] = str(error)
        return self._refusals[asked]

    def _compare(self, task: Task) -> str:
        from hvqbench.metrics import metric_info

        entry = self._entries[task.source] = find_codec(task.source)
        if reason := entry.broken or entry.unavailable():
            return reason
        same = "make it the same on every node"
        if entry.fingerprint != task.fingerprint:
            return (
                f"{task.codec} is another one than where the run was started (definition, weights, libraries): {same}"
            )
        check_device(task.device)
        for name, version in task.metrics.items():
            if reason := metric_info(name).unavailable():
                return f"metric {name}: {reason}"
            with suppress(metadata.PackageNotFoundError):
                if (own := metric_versions([name])[name]) != version:
                    return f"metric {name} is {own}, where the run was started {version}: {same}"
        return ""
