"""A run on a cluster: a real one of two nodes on this machine, one of which dies; and, without one, its parts."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import typer

import hvqbench
from hvqbench import cli
from hvqbench.bench.executor import LostTeamError, Team, execute
from hvqbench.bench.node import CarriedImage, NodeTeam
from hvqbench.bench.plan import find_codec, look_at, make_plan, metric_versions
from hvqbench.bench.ray_executor import ATTEMPTS, RayTeam, Share
from hvqbench.bench.task import Task
from hvqbench.errors import HvqbenchError
from hvqbench.image import write_image

ROOT = str(Path(hvqbench.__file__).parents[1])
ADAPTER = """
import time
from hvqbench.adapters.pillow import PillowCodec

class Slow(PillowCodec):
    def encode(self, image, point):
        time.sleep(0.3)
        return super().encode(image, point)
"""
TOML = 'summary = "JPEG that takes its time"\npoint_name = "quality"\npoints = [20, 50, 80]\n'
TOML += '[options]\nformat = "JPEG"\nsubsampling = "4:2:0"\nprogressive = false\noptimize = false\n'
CIRCUMSTANCES = ["encode_s", "decode_s", "started", "command", "jobs", "threads"]


@pytest.fixture
def catalog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "catalog" / "codecs" / "slow"
    folder.mkdir(parents=True)
    (folder / "adapter.py").write_text(ADAPTER)
    (folder / "codec.toml").write_text(TOML)
    monkeypatch.setenv("HVQBENCH_CATALOG", str(tmp_path / "catalog"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return tmp_path / "catalog"


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name in "abcdef":
        write_image(folder / f"{name}.png", rng.integers(0, 256, (24, 32, 3), dtype=np.uint8))
    return folder


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Two nodes of one core each: the head, and one that a test may kill."""
    pytest.importorskip("ray", reason="ray is not installed: pip install 'hvqbench[ray]'")
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [ROOT, os.environ.get("PYTHONPATH")])))
    node = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=node)
    try:
        cluster.add_node(num_cpus=1, object_store_memory=80 * 2**20)
        yield cluster
    finally:
        cluster.shutdown()


def wait_for(condition: Any, seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.slow
def test_two_nodes_one_of_which_dies_make_the_rows_of_a_serial_run(
    cluster: Any, catalog: Path, images: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    serial = hvqbench.run("slow", images, metrics=["psnr"], results=tmp_path / "serial", progress=False)
    results = tmp_path / "spread"

    def kill() -> None:
        wait_for(lambda: len(list(results.rglob("codec=slow/[!.]*.parquet"))) >= 3)
        cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)

    killer = threading.Thread(target=kill)
    killer.start()
    options: dict[str, Any] = {"executor": "ray", "address": cluster.address, "jobs": 2}
    spread = hvqbench.run("slow", images, metrics=["psnr"], results=results, progress=False, **options)
    killer.join()
    assert "lost a job" in capfd.readouterr().err
    assert len(serial) == 18
    assert set(spread["status"]) == {"ok"}
    pd.testing.assert_frame_equal(spread.drop(columns=CIRCUMSTANCES), serial.drop(columns=CIRCUMSTANCES))
    assert len(pd.read_parquet(results)) == 18  # as any other reader sees it: nothing double

    # The same cluster, one node less; stopped by Ctrl-C, and resumed by the same command.
    again = tmp_path / "stopped"
    arguments = ["run", "--codec", "slow", "--dataset", str(images), "--metric", "psnr", "--results", str(again)]
    command = [sys.executable, "-m", "hvqbench", *arguments, "--executor", "ray", "--address", cluster.address]
    heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True, preexec_fn=heard)
    wait_for(lambda: list(again.rglob("codec=slow/[!.]*.parquet")))
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    assert 1 <= len(hvqbench.read_results(again)) < 18
    subprocess.run(command, check=True, capture_output=True)
    resumed = hvqbench.read_results(again)
    pd.testing.assert_frame_equal(resumed.drop(columns=CIRCUMSTANCES), serial.drop(columns=CIRCUMSTANCES))


class Fickle(Team):
    """A team that is lost with the tasks that it is told to be lost with, and never comes back after the last."""

    def __init__(self, losses: Sequence[int], comes_back: bool = True) -> None:
        super().__init__(1)
        self.losses, self.comes_back, self.lost = list(losses), comes_back, False

    def start(self) -> None:
        if self.lost and not self.comes_back:
            threading.Event().wait(60)  # no node has room for it

    def do(self, task: int) -> int:
        time.sleep(0.001)
        if task in self.losses:
            self.losses.remove(task)
            self.lost = True
            raise LostTeamError("gone")
        return task


@pytest.mark.parametrize("comes_back", [True, False])
def test_what_a_lost_team_was_at_is_done_by_another(comes_back: bool) -> None:
    groups = [[1, 2, 3], [4, 5], [6, 7, 8, 9]]
    teams: list[Team] = [Fickle([2, 5, 9], comes_back), Fickle([])]
    done = list(execute(groups, teams, lambda task, team: team.do(task)))  # type: ignore[attr-defined]
    assert Counter(done) == Counter(range(1, 10))


def task_for(images: Path) -> tuple[Task, CarriedImage]:
    pictures = look_at(hvqbench.load_dataset(images), 1, images / ".cache.json")
    task = make_plan([find_codec("slow")], "pictures", pictures, metric_versions(["psnr"]), [50], "cpu")[0]
    return task, CarriedImage(task.image.name, task.image.path, task.image.path.read_bytes())


def test_a_node_needs_no_image_files_and_says_which_machine_it_is(catalog: Path, images: Path) -> None:
    task, image = task_for(images)
    image.path.unlink()
    team = NodeTeam(1, str(images), str(catalog))
    try:
        row, stream = team.measure(task, image, None)
        again, _ = team.measure(task, image, None)
    finally:
        team.close()
    assert (row["status"], row["reason"]) == ("ok", "")
    assert stream is not None
    assert (len(stream), row["digest"], row["psnr"]) == (row["bytes"], again["digest"], again["psnr"])
    assert row["host"] == os.uname().nodename
    assert '"numpy"' in row["libraries"]


def test_a_node_without_the_codec_or_with_another_one_makes_a_failed_row(catalog: Path, images: Path) -> None:
    task, image = task_for(images)

    def reason_on(catalog: Path) -> str:
        row, stream = NodeTeam(1, str(images), str(catalog)).measure(task, image, None)
        assert (row["status"], stream) == ("failed", None)
        assert "psnr" not in row
        return str(row["reason"])

    there = f"on {os.uname().nodename}: "
    assert reason_on(catalog / "none").startswith(f"{there}catalog folder")
    (catalog / "codecs" / "slow" / "codec.toml").write_text(TOML.replace("optimize = false", "optimize = true"))
    assert reason_on(catalog).startswith(f"{there}slow is another one than where the run was started")
    (catalog / "codecs" / "slow" / "codec.toml").unlink()
    assert reason_on(catalog).startswith(f"{there}unknown codec 'slow'")


def test_a_task_that_teams_are_lost_with_becomes_a_failed_row(catalog: Path, images: Path) -> None:
    task, _ = task_for(images)
    row, stream = RayTeam(None, Share(), Counter({task.identity: ATTEMPTS})).measure(task, None)
    assert (row["status"], stream) == ("failed", None)
    assert row["reason"].startswith(f"{ATTEMPTS} jobs were lost with it")


def test_a_node_with_another_metric_makes_a_failed_row(
    catalog: Path, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, image = task_for(images)
    monkeypatch.setattr("hvqbench.bench.node.metric_versions", lambda names: {name: f"{name}/0" for name in names})
    row, _ = NodeTeam(1, str(images), str(catalog)).measure(task, image, None)
    assert "metric psnr is psnr/0, where the run was started psnr/" in row["reason"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"executor": "slurm"}, "executor is 'slurm'; it must be one of local, ray"),
        ({"address": "node:6379"}, "add --executor ray"),
        ({"executor": "ray", "per_job": {"cores": 2}}, "it is of cpu, gpu and memory"),
        ({"executor": "ray", "per_job": {"cpu": 0}}, "cpu must be above 0"),
        ({"executor": "ray", "no ray": True}, r"pip install 'hvqbench\[ray\]'"),
    ],
)
def test_wrong_arguments_say_so(
    catalog: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], message: str
) -> None:
    if options.get("no ray"):
        monkeypatch.setitem(sys.modules, "ray", None)
    options = {name: value for name, value in options.items() if name != "no ray"}
    with pytest.raises(HvqbenchError, match=message):
        hvqbench.run("slow", images, metrics=["psnr"], results=tmp_path / "results", progress=False, **options)


def test_no_cluster_is_one_line(catalog: Path, images: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    options: dict[str, Any] = {"executor": "ray", "address": "127.0.0.1:1", "progress": False}
    with pytest.raises(HvqbenchError, match=r"no Ray cluster at 127.0.0.1:1 .*start one with `ray start --head`"):
        hvqbench.run("slow", images, metrics=["psnr"], results=tmp_path / "results", **options)


def test_a_share_of_a_node() -> None:
    assert Share.of({}, "cpu").options == {"num_cpus": 1, "num_gpus": 0, "memory": None}
    assert Share.of({"cpu": 4, "memory": 16}, "cuda").options == {"num_cpus": 4, "num_gpus": 1, "memory": 16 * 10**9}
    assert Share.of({"gpu": 0.5}, "cuda:0").options["num_gpus"] == 0.5


def test_the_scripts_of_the_documentation_are_well_formed() -> None:
    text = (Path(ROOT) / "docs" / "cluster.md").read_text()
    blocks = dict(re.findall(r"^```(\w+)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE))
    subprocess.run(["bash", "-n"], input=blocks["bash"], text=True, check=True)
    manifest = pytest.importorskip("yaml").safe_load(blocks["yaml"])
    command: Any = typer.main.get_command(cli.app)
    for line in (blocks["bash"].replace("\\\n", " ").splitlines()[-1], manifest["spec"]["entrypoint"]):
        line = re.sub(r"\$\(\(.*?\)\)", "8", line)
        program, *arguments = shlex.split(line)
        parsed = command.commands["run"].make_context("run", arguments[1:])
        assert (program, arguments[0], parsed.params["executor"]) == ("hvqbench", "run", "ray")
