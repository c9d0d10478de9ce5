"""The timing pass, with codecs whose times, memory and faults are known."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter, namedtuple
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from hvqbench import cli
from hvqbench.bench import machine, read_results
from hvqbench.bench.complexity import count_parameters, count_work
from hvqbench.bench.machine import OtherWork, is_busy
from hvqbench.bench.task import Task
from hvqbench.bench.timing import interleave, read_timing, time_codecs
from hvqbench.data import ImageFile
from hvqbench.errors import HvqbenchError
from hvqbench.image import write_image
from hvqbench.report.summary import exit_code, summarize_timing

ADAPTER = '''
"""Raw pixels. A point is the MB that encoding needs for a moment."""
import os, subprocess, sys, time
import numpy as np
from hvqbench.codec import Bitstream, Codec, Stream
from hvqbench.timing import span

def spin(seconds):
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass

class Raw(Codec):
    calls = 0

    def unavailable(self):
        return self.spec.options.get("unavailable")

    def encode(self, image, point):
        trouble = self.spec.options.get("trouble", "")
        self.calls += 1
        if trouble == "slow first call" and self.calls == 1:
            time.sleep(1)
        if trouble == "interrupt" and self.calls == 6:  # a warm-up, a round of three, one more
            raise KeyboardInterrupt
        if trouble == "raise" and image.max() < 100:
            raise ValueError("too dark")
        with span("wait"):
            time.sleep(0.01)
        with span("work"):
            np.ones(int(point) << 20, np.uint8)
            spin(0.01)
            with span("part"):
                spin(0.01)
        data = np.array(image.shape[:2], "<u2").tobytes() + image.tobytes()
        if trouble == "other bytes":
            data += bytes(self.calls)
        return Bitstream(data, {"all": Stream(len(data))})

    def decode(self, data):
        trouble = self.spec.options.get("trouble", "")
        if trouble == "child":
            subprocess.run([sys.executable, "-c", "x = bytearray(60 << 20); y = sum(range(2_000_000))"], check=True)
        height, width = np.frombuffer(data[:4], "<u2")
        image = np.frombuffer(data[4:], np.uint8)[: height * width * 3].reshape(height, width, 3)
        return image ^ np.uint8(id(self) // 16 % 256) if trouble == "drift" else image
'''
MB = 1 << 20


def add_codec(catalog: Path, name: str, options: str = "", points: str = "[1]") -> None:
    folder = catalog / "codecs" / name
    folder.mkdir(parents=True)
    (folder / "adapter.py").write_text(ADAPTER)
    (folder / "codec.toml").write_text(
        f'summary = "test"\npoint_name = "MB"\npoints = {points}\n[options]\n{options}\n'
    )


@pytest.fixture
def catalog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HVQBENCH_CATALOG", str(tmp_path / "catalog"))
    add_codec(tmp_path / "catalog", "raw", points="[1, 48]")
    return tmp_path / "catalog"


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Three small images, the first of them dark."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name, top, size in (("a-dark", 90, (7, 9, 3)), ("b", 256, (12, 5, 3)), ("c", 256, (4, 4, 3))):
        write_image(folder / f"{name}.png", rng.integers(0, top, size, dtype=np.uint8))
    return folder


@pytest.fixture
def results(tmp_path: Path) -> Path:
    return tmp_path / "results"


def timed(codecs: str | list[str], images: Path, results: Path, **options: object) -> pd.DataFrame:
    return time_codecs(codecs, images, results=results, progress=False, **{"repeats": 1, **options})  # type: ignore[arg-type]


def test_rows_hold_wall_and_cpu_time_stages_and_circumstances(catalog: Path, images: Path, results: Path) -> None:
    rows = timed("raw", images, results, repeats=2)
    assert Counter(zip(rows["point"], rows["image"], rows["repeat"], strict=True)) == Counter(
        (point, image, repeat) for point in (1, 48) for image in ("a-dark", "b", "c") for repeat in (1, 2)
    )
    assert set(rows["status"]) == {"ok"}
    assert exit_code(rows) == 0
    # It sleeps for 10 ms and works for 20: a busy machine only adds to what the clock says.
    assert (rows["encode_s"] >= 0.03).all()
    assert (rows["encode_cpu_s"] >= 0.02).all()
    assert (rows["encode_cpu_s"] < rows["encode_s"]).any()
    assert (rows["encode_s.work"] >= rows["encode_s.part"] + 0.01).all()
    assert (rows["encode_s.wait"] + rows["encode_s.work"] <= rows["encode_s"]).all()
    assert (rows["decode_s"] > 0).all()
    assert not [name for name in rows if name.startswith("decode_s.")]
    assert rows["cpu"].all()
    assert rows["bytes"].tolist() == (4 + 3 * rows["width"] * rows["height"]).tolist()
    pd.testing.assert_frame_equal(read_timing(results), rows)


def test_times_are_no_quality_rows_but_share_their_key(catalog: Path, images: Path, results: Path) -> None:
    from hvqbench.bench import run

    times = timed("raw", images, results)
    with pytest.raises(HvqbenchError, match="no results"):
        read_results(results)
    run("raw", images, metrics=["psnr"], results=results, progress=False)
    quality = read_results(results)
    assert len(quality) == len(times) == 6
    assert set(quality["key"]) == set(times["key"])


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux resets a process's peak memory")
def test_memory_is_the_peak_of_coding_alone_and_of_its_children(catalog: Path, images: Path, results: Path) -> None:
    add_codec(catalog, "child", 'trouble = "child"')
    ballast = np.ones(200 * MB, np.uint8)  # this process's own is nobody's
    rows = timed(["raw", "child"], images, results, limit=1).set_index(["codec", "point"])
    assert ballast.all()
    encode, decode = rows["encode_memory"], rows["decode_memory"]
    assert encode["raw", 48] - encode["raw", 1] == pytest.approx(47 * MB, abs=4 * MB)
    assert decode["raw", 48] == pytest.approx(decode["raw", 1], abs=4 * MB)
    assert decode["raw", 1] < 150 * MB
    assert decode["child", 1] - decode["raw", 1] > 60 * MB
    assert rows["decode_cpu_s"]["child", 1] > 2 * rows["decode_cpu_s"]["raw", 1]
    assert rows["encode_gpu_memory"].isna().all()


def test_the_first_call_is_nobodys(catalog: Path, images: Path, results: Path) -> None:
    add_codec(catalog, "lazy", 'trouble = "slow first call"')
    rows = timed("lazy", images, results)
    assert len(rows) == 3
    assert (rows["encode_s"] - rows["encode_s.wait"] - rows["encode_s.work"] < 0.9).all()


@pytest.mark.parametrize(
    ("trouble", "reason"), [("other bytes", "not deterministic"), ("drift", "disagrees"), ("raise", "too dark")]
)
def test_what_is_wrong_has_no_times(catalog: Path, images: Path, results: Path, trouble: str, reason: str) -> None:
    add_codec(catalog, "bad", f'trouble = "{trouble}"')
    rows = timed(["bad", "raw"], images, results, repeats=2)
    failed = rows[rows["status"] == "failed"]
    assert set(failed["codec"]) == {"bad"}
    assert len(failed) == {"other bytes": 3, "drift": 6, "raise": 2}[trouble]
    assert failed["reason"].str.contains(reason).all()
    assert failed[["encode_s", "decode_s", "encode_s.work"]].isna().all(axis=None)
    assert exit_code(rows) == 1
    assert reason in summarize_timing(rows)


def test_a_codec_or_an_image_that_cannot_be_used_is_a_row(catalog: Path, images: Path, results: Path) -> None:
    add_codec(catalog, "absent", 'unavailable = "buy a licence"')
    (images / "d.png").write_bytes(b"no image")
    rows = timed(["absent", "raw"], images, results)
    assert rows["status"].value_counts().to_dict() == {"ok": 6, "failed": 2, "unavailable": 1}
    assert set(rows[rows["status"] == "failed"]["image"]) == {"d"}
    assert "buy a licence" in summarize_timing(rows)
    only = timed("absent", images, results, limit=3)
    assert only["reason"].tolist() == ["buy a licence"]
    assert exit_code(only) == 1


def test_an_interrupted_pass_leaves_whole_rounds(catalog: Path, images: Path, results: Path) -> None:
    add_codec(catalog, "stopped", 'trouble = "interrupt"')
    with pytest.raises(KeyboardInterrupt):
        timed("stopped", images, results, repeats=3)
    left = read_timing(results)
    assert sorted(left["image"]) == ["a-dark", "b", "c"]
    assert set(left["repeat"]) == {1}


def test_the_newest_pass_counts(catalog: Path, images: Path, results: Path) -> None:
    with pytest.raises(HvqbenchError, match=r"--timing of `hvqbench run`"):
        read_timing(results)
    timed("raw", images, results)
    second = timed("raw", images, results, points=[2])
    assert set(read_timing(results)["pass"]) == set(second["pass"])
    assert len(read_timing(results, history=True)) == 6 + 3


def tasks(codec: str, count: int) -> list[Task]:
    images = [ImageFile(f"{i}", Path(f"{i}.png")) for i in range(count)]
    common = {"source": codec, "fingerprint": "", "point": 1.0, "point_name": "q", "device": "cpu"}
    sizes = {"image_sha256": "", "width": 1, "height": 1, "metrics": {}}
    return [Task(dataset="d", codec=codec, image=image, **common, **sizes) for image in images]  # type: ignore[arg-type]


def test_codecs_are_shuffled_and_spread_evenly() -> None:
    asked = tasks("few", 4) + tasks("many", 16)
    order = interleave(asked, seed=1)
    assert sorted((t.codec, int(t.image.name)) for t in order) == sorted((t.codec, int(t.image.name)) for t in asked)
    assert order == interleave(asked, seed=1)
    assert order != interleave(asked, seed=2)
    many = [int(task.image.name) for task in order if task.codec == "many"]
    assert many != sorted(many)
    for seed in range(20):
        where = [place for place, task in enumerate(interleave(asked, seed)) if task.codec == "few"]
        # One "few" in each quarter, among four "many": its place is off by no more than its neighbours' spread.
        assert all(5 * quarter - 1 <= place <= 5 * quarter + 5 for quarter, place in enumerate(where))


def test_the_summary_is_medians_spreads_and_ratios_within_the_pass() -> None:
    rows = [
        {"codec": codec, "point": 1.0, "point_name": "q", "image": image, "width": 1000, "height": 500, "status": "ok"}
        | {"encode_s": factor * seconds, "decode_s": 0.002, "encode_cpu_s": 0.5, "decode_cpu_s": 0.002}
        | {"encode_memory": 5e7, "decode_memory": 4e7, "encode_gpu_memory": np.nan, "decode_gpu_memory": np.nan}
        | {"cpu": "C64", "cores": 1, "governor": "none", "threads": 1, "device_name": "", "busy": False, "repeat": 1}
        | ({"encode_s.z": seconds / 10} if codec == "slow" else {})
        for codec, factor in (("quick", 1), ("slow", 3))
        for image, times in (("a", (0.1, 0.1, 0.9)), ("b", (0.2, 0.2, 0.2)))
        for seconds in times
    ]
    text = summarize_timing(pd.DataFrame(rows))
    lines = [line.split("  ") for line in text.splitlines()]
    cells = [[cell.strip() for cell in line if cell.strip()] for line in lines]
    # Pooled: 0.1 0.1 0.2 0.2 0.2 0.9, quartiles 0.125, 0.2 and 0.2. Images: 0.1 and 0.2 s for 0.5 MP each.
    assert cells[2] == ["quick", "q 1", "6", "200 (75)", "2.00 (0.00)", "3.33", "250", "1.00", "1.00", "50", "40"]
    assert cells[3] == ["slow", "q 1", "6", "600 (225)", "2.00 (0.00)", "1.11", "250", "3.00", "1.00", "50", "40"]
    assert ["codec", "point", "ms in", "whole", "CPU", "z"] in cells
    assert ["quick", "q 1", "encode", "200 (75)", "500 (0)", "-"] in cells
    assert ["slow", "q 1", "encode", "600 (225)", "500 (0)", "20.0 (7.5)"] in cells
    assert "Others were working" not in text
    busy = pd.DataFrame(rows).assign(busy=True, load_average=3.0, others_cores=0.7)
    said = summarize_timing(busy)
    assert "load average 3.00 at the start, up to 0.70 cores" in said
    # Beside others there are ratios and memory, and neither seconds nor speed.
    told = [cell.strip() for cell in said.splitlines()[3].split("  ") if cell.strip()]
    assert told == ["slow", "q 1", "6", "-", "-", "-", "-", "3.00", "1.00", "50", "40"]
    assert "200 (75)" not in said
    partly = pd.DataFrame(rows).assign(load_average=0.1, others_cores=0.7)
    partly.loc[partly["encode_s"] > 0.8, "busy"] = True  # of "quick" the one outlier, of "slow" too
    assert "of the other rounds alone" in summarize_timing(partly)
    assert "200 (100)" in summarize_timing(partly)


def test_parameters_and_products_are_counted_from_outside() -> None:
    network = torch.nn.Conv2d(3, 8, 3, padding=1, stride=2)
    before = count_parameters()
    other = torch.nn.Linear(10, 4)
    assert count_parameters() - before == 44
    found = count_work(torch.inference_mode()(lambda: other(network(torch.zeros(1, 3, 16, 20)).flatten()[:10])))
    assert found["macs"] == 8 * 10 * 8 * 27 + 40
    assert np.isnan(found["gpu_busy_s"])
    script = "from hvqbench.bench.complexity import *; print(count_work(lambda: 0), count_parameters())"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.count("nan") == 3  # without torch there is nothing to count


def test_who_else_is_working(monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal", "guest", "guest_nice")
    spent = namedtuple("spent", kinds)
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    stat, own, clock = spent(10, 0, 5, 90, 0.5, 0, 0, 0, 0, 0), 5.0, 100.0
    monkeypatch.setattr("psutil.cpu_times", lambda: stat)
    monkeypatch.setattr(machine, "cpu_seconds", lambda: own)
    monkeypatch.setattr(machine, "perf_counter", lambda: clock)
    others = OtherWork()
    assert np.isnan(others.cores())
    # In 10 s the machine worked for 9 s, 5 s of them in this process; idle and waiting for a disk are no work.
    stat, own, clock = spent(15, 1, 7, 120, 1.5, 0.4, 0.2, 0.4, 3, 1), 10.0, 110.0
    assert others.cores() == pytest.approx(0.4)
    assert not is_busy(0.5, 0.4)
    assert not is_busy(0.1, float("nan"))
    assert is_busy(0.6)
    assert is_busy(0.0, 0.41)


def said(capsys: pytest.CaptureFixture[str], *arguments: str | Path, code: int) -> tuple[str, str]:
    with pytest.raises(SystemExit) as caught:
        cli.main([str(argument) for argument in arguments])
    assert (caught.value.code or 0) == code
    return capsys.readouterr()


def test_the_command(
    catalog: Path, images: Path, results: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.getloadavg", lambda: (9.5, 0.0, 0.0))
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    command = ("run", "--codec", "raw", "--dataset", images, "--results", results, "--points", "1", "--limit", "2")
    out, err = said(capsys, *command, "--timing", "--repeats", "2", code=0)
    assert out.splitlines()[2].split()[:4] == ["raw", "MB", "1", "4"]
    assert "load average 9.50" in out
    assert "load average is 9.50" in err.splitlines()[0]
    rows = read_timing(results)
    assert len(rows) == 4
    assert rows["busy"].all()
    for wrong, reason in (
        (["--timing", "--jobs", "2"], "side by side"),
        (["--timing", "--metric", "psnr"], "no quality"),
        (["--timing", "--rerun", "all"], "no quality"),
        (["--repeats", "2"], "add --timing"),
        (["--timing", "--device", "nowhere"], "cannot use device"),
    ):
        out, err = said(capsys, *command, *wrong, code=2)
        assert out == ""
        assert err.count("\n") == 1
        assert reason in err
