"""The sweep, with codecs made up for the purpose: it measures, refuses, survives and resumes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import hvqbench
from hvqbench.bench.plan import look_at
from hvqbench.bench.process import Process
from hvqbench.bench.task import WorkerError
from hvqbench.codec import image_digest
from hvqbench.errors import HvqbenchError
from hvqbench.image import write_image
from hvqbench.report.summary import exit_code, summarize

ADAPTER = '''
"""Zlib over coarser pixels: a point is the number of levels that are merged into one."""
import os, time, zlib
from pathlib import Path
import numpy as np
from hvqbench.codec import Bitstream, Codec, Stream

class Coarse(Codec):
    def unavailable(self):
        return self.spec.options.get("unavailable")

    def encode(self, image, point):
        HERE = Path(__file__).parent
        with open(HERE / "encoded.log", "a") as log:
            log.write(f"{os.getpid()} {point:g}\\n")
        trouble = self.spec.options.get("trouble")
        dark = image.max() < 100
        if trouble == "raise" and dark:
            raise ValueError("too dark [bold]to see[/bold]")
        if trouble == "memory" and dark:
            np.empty(2**50)
        if trouble == "die" and dark:
            os.kill(os.getpid(), 9)
        time.sleep(self.spec.options.get("sleep", 0))
        header = np.array([*image.shape[:2], int(point)], "<u2").tobytes()
        payload = zlib.compress((image // int(point)).tobytes())
        image[:] = 0  # whoever hands over pixels must not need them any more
        ledger = {"header": Stream(6), "payload": Stream(len(payload), 8.0 * len(payload) - 4)}
        return Bitstream(header + payload, ledger)

    def decode(self, data):
        height, width, point = np.frombuffer(data[:6], "<u2")
        image = np.frombuffer(zlib.decompress(data[6:]), np.uint8).reshape(height, width, 3) * np.uint8(point)
        if self.spec.options.get("trouble") == "drift":
            image = image + np.uint8(os.getpid() % 251)
        if self.spec.options.get("trouble") == "crop":
            image = image[1:]
        return image
'''
TOML = """
summary = "{name}"
point_name = "levels"
points = [1, 16]
[options]
{options}
"""


def add_codec(catalog: Path, name: str, options: str = "") -> Path:
    folder = catalog / "codecs" / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "adapter.py").write_text(ADAPTER)
    (folder / "codec.toml").write_text(TOML.format(name=name, options=options))
    return folder


@pytest.fixture
def catalog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HVQBENCH_CATALOG", str(tmp_path / "catalog"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    add_codec(tmp_path / "catalog", "coarse")
    return tmp_path / "catalog"


@pytest.fixture
def results(tmp_path: Path) -> Path:
    return tmp_path / "results"


def run(codecs: str | list[str], images: Path, results: Path, **options: object) -> pd.DataFrame:
    arguments = {"metrics": ["psnr"], "results": results, "progress": False, **options}
    return hvqbench.run(codecs, images, **arguments)  # type: ignore[arg-type]


def encodings(catalog: Path, name: str = "coarse") -> int:
    log = catalog / "codecs" / name / "encoded.log"
    return len(log.read_text().splitlines()) if log.exists() else 0


def test_rows_are_complete_and_right(catalog: Path, images: Path, results: Path) -> None:
    rows = run("coarse", images, results)
    assert list(rows["status"]) == ["ok"] * 4
    assert list(zip(rows["point"], rows["image"], strict=True)) == [
        (1, "a-dark"),
        (1, "b-light"),
        (16, "a-dark"),
        (16, "b-light"),
    ]
    light = rows[(rows["image"] == "b-light") & (rows["point"] == 16)].iloc[0]
    assert (light["width"], light["height"]) == (5, 12)
    assert light["bpp"] == 8 * light["bytes"] / 60
    assert light["bytes"] == light["bytes.header"] + light["bytes.payload"]
    assert light["ideal_bytes"] == light["bytes.payload"] - 0.5
    stream = results / "_streams" / light["bitstream_sha256"][:2] / f"{light['bitstream_sha256']}.bin"
    assert stream.stat().st_size == light["bytes"]
    original = hvqbench.load_dataset(images).images[1].read()
    assert light["psnr"] == hvqbench.load_metric("psnr")(original, original // 16 * 16)
    assert np.isinf(rows[rows["point"] == 1]["psnr"]).all()
    assert (rows["encode_s"] > 0).all()
    assert (rows["decode_s"] > 0).all()
    for column in ("version", "libraries", "host", "threads", "device", "command", "started", "codec_fingerprint"):
        assert rows[column].astype(str).str.len().gt(0).all(), column
    pd.testing.assert_frame_equal(hvqbench.read_results(results), rows)


def test_a_second_run_encodes_nothing(catalog: Path, images: Path, results: Path) -> None:
    first = run("coarse", images, results)
    before = encodings(catalog)
    pd.testing.assert_frame_equal(run("coarse", images, results), first)
    assert encodings(catalog) == before


def test_a_finished_run_needs_neither_torch_nor_pixels(
    catalog: Path, images: Path, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hvqbench.bench.plan._may_still_change", lambda state: False)  # as if it were two seconds ago
    run("coarse", images, results)
    script = (
        "import sys, hvqbench, hvqbench.data\n"
        "hvqbench.data.read_image = None\n"
        f"rows = hvqbench.run('coarse', {str(images)!r}, metrics=['psnr'], results={str(results)!r})\n"
        "assert len(rows) == 4 and 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, env=environment())


def test_only_what_changed_is_measured_again(catalog: Path, images: Path, results: Path) -> None:
    run("coarse", images, results)
    before = encodings(catalog)
    write_image(images / "b-light.png", np.full((4, 4, 3), 200, np.uint8))
    rows = run("coarse", images, results)
    # Two points of one image, and the encoder's warm-up.
    assert encodings(catalog) - before == 3
    assert set(rows[rows["image"] == "b-light"]["width"]) == {4}
    assert len(hvqbench.read_results(results)) == 4
    assert len(hvqbench.read_results(results, history=True)) == 6


def test_an_edited_codec_is_another_version_and_the_table_never_mixes_two(
    catalog: Path, images: Path, results: Path
) -> None:
    old = run("coarse", images, results)
    adapter = catalog / "codecs" / "coarse" / "adapter.py"
    adapter.write_text(ADAPTER.replace(".tobytes())\n", ".tobytes(), 0)\n"))
    new = run("coarse", images, results, limit=1)
    assert len(new) == 2
    assert new["bytes"].min() > old[old["image"] == "a-dark"]["bytes"].min()
    pd.testing.assert_frame_equal(hvqbench.read_results(results), new)
    history = hvqbench.read_results(results, history=True)
    assert len(history) == 6
    assert set(history[history["current"]]["key"]) == set(new["key"])
    # Back to the old version: nothing to encode, and what was run is what is read.
    adapter.write_text(ADAPTER)
    before = encodings(catalog)
    back = run("coarse", images, results)
    assert encodings(catalog) == before
    assert set(back["key"]) == set(old["key"]) == set(hvqbench.read_results(results)["key"])


def test_a_new_metric_needs_no_new_encoding(catalog: Path, images: Path, results: Path) -> None:
    first = run("coarse", images, results)
    before = encodings(catalog)
    both = run("coarse", images, results, metrics=["psnr", "ms-ssim"])
    assert encodings(catalog) == before
    assert list(both["status"]) == ["ok"] * 4
    assert both["ms-ssim"].isna().all()  # the images are too small for it
    for column in ("psnr", "bytes", "encode_s", "decode_s", "key", "digest"):
        pd.testing.assert_series_equal(both[column], first[column])
    assert both["started"].min() > first["started"].max()
    assert len(hvqbench.read_results(results, history=True)) == 4
    # The other way round nothing is missing.
    assert list(run("coarse", images, results)["started"]) == list(both["started"])


def test_a_lost_bitstream_is_encoded_again(catalog: Path, images: Path, results: Path) -> None:
    first = run("coarse", images, results, limit=1, points=[1])
    next((results / "_streams").rglob("*.bin")).write_bytes(b"altered")
    again = run("coarse", images, results, limit=1, points=[1], metrics=["psnr", "ms-ssim"])
    assert list(again["bitstream_sha256"]) == list(first["bitstream_sha256"])
    assert "ms-ssim" in again
    assert next((results / "_streams").rglob("*.bin")).stat().st_size == first["bytes"].iloc[0]


def test_encoder_and_decoder_are_two_processes_and_both_have_the_threads(
    catalog: Path, images: Path, results: Path
) -> None:
    # The codec adds its process id to the pixels that it decodes.
    add_codec(catalog, "drifting", 'trouble = "drift"')
    rows = run(["drifting", "coarse"], images, results)
    drifting = rows[rows["codec"] == "drifting"]
    assert set(drifting["status"]) == {"failed"}
    assert drifting["reason"].str.contains("the decoder disagrees with the encoder").all()
    assert drifting[["bytes", "bpp", "psnr"]].isna().all(axis=None)
    assert set(rows[rows["codec"] == "coarse"]["status"]) == {"ok"}
    assert set(rows["threads"]) == {1}
    assert "drifting a-dark at levels 1 and 3 more: the decoder disagrees" in summarize(rows)
    assert exit_code(rows) == 1


@pytest.mark.parametrize(
    ("trouble", "reason"),
    [
        ("raise", "encoder: ValueError: too dark [bold]to see[/bold] (adapter.py, line 19)"),
        ("memory", "encoder: out of memory ("),
        ("die", "the encoder process was killed by SIGKILL"),
    ],
)
def test_a_failure_is_a_row_and_the_run_goes_on(
    catalog: Path, images: Path, results: Path, trouble: str, reason: str
) -> None:
    add_codec(catalog, "troubled", f'trouble = "{trouble}"')
    rows = run("troubled", images, results)
    assert list(rows["status"]) == ["failed", "ok", "failed", "ok"]
    failed = rows[rows["status"] == "failed"]
    assert failed["reason"].str.startswith(reason).all()
    assert set(failed["image"]) == {"a-dark"}
    assert reason in summarize(rows)

    def attempts(rerun: str) -> int:
        before = encodings(catalog, "troubled")
        assert list(run("troubled", images, results, rerun=rerun)["status"]) == list(rows["status"])
        return encodings(catalog, "troubled") - before

    assert attempts("missing") == 0
    assert attempts("never") == 0
    assert attempts("failed") == 2
    assert attempts("all") >= 4
    assert len(hvqbench.read_results(results, history=True)) == 4


def test_another_size_is_a_failure(catalog: Path, images: Path, results: Path) -> None:
    add_codec(catalog, "cropping", 'trouble = "crop"')
    rows = run("cropping", images, results, limit=1)
    assert set(rows["reason"]) == {"the decoder returned 9x6 pixels for an image of 9x7"}


def test_a_codec_that_cannot_run_is_one_visible_row_until_it_can(catalog: Path, images: Path, results: Path) -> None:
    add_codec(catalog, "absent", 'unavailable = "no binary: install it"')
    rows = run(["absent", "coarse"], images, results)
    assert list(rows["status"]) == ["unavailable"] + ["ok"] * 4
    assert rows.iloc[0]["reason"] == "no binary: install it"
    assert np.isnan(rows.iloc[0]["point"])
    assert "cannot run here:\n  absent: no binary: install it" in summarize(rows)
    assert exit_code(rows) == 0
    assert exit_code(run("absent", images, results)) == 1
    add_codec(catalog, "absent")
    assert set(run("absent", images, results)["status"]) == {"ok"}
    assert "unavailable" not in set(hvqbench.read_results(results)["status"])


def test_a_broken_adapter_is_a_row(catalog: Path, images: Path, results: Path) -> None:
    add_codec(catalog, "broken")
    (catalog / "codecs" / "broken" / "adapter.py").write_text("import no_such_module\n")
    rows = run(["broken", "coarse"], images, results, limit=1)
    assert list(rows["status"]) == ["unavailable", "ok", "ok"]
    assert "No module named 'no_such_module'" in rows.iloc[0]["reason"]


def test_an_image_that_cannot_be_read_is_a_row_until_it_can(catalog: Path, images: Path, results: Path) -> None:
    whole = (images / "a-dark.png").read_bytes()
    (images / "a-dark.png").write_bytes(whole[:60])
    rows = run("coarse", images, results)
    assert list(rows["status"]) == ["failed", "ok", "ok"]
    assert rows.iloc[0]["image"] == "a-dark"
    assert "a-dark.png" in rows.iloc[0]["reason"]
    (images / "a-dark.png").write_bytes(whole)
    assert list(run("coarse", images, results)["status"]) == ["ok"] * 4
    assert list(hvqbench.read_results(results)["status"]) == ["ok"] * 4


def test_jobs_change_no_number(catalog: Path, images: Path, results: Path, tmp_path: Path) -> None:
    alone = run("coarse", images, results)
    together = run("coarse", images, tmp_path / "other", jobs=2)
    columns = ["point", "image", "bytes", "psnr", "digest", "key", "status"]
    pd.testing.assert_frame_equal(alone[columns], together[columns])
    assert set(together["jobs"]) == {2}
    speeds = [line.split()[-2:] for line in summarize(together).splitlines()[2:]]
    assert speeds == [["-", "-"]] * 2


def test_python_callers_need_no_main_guard(catalog: Path, images: Path, results: Path, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import hvqbench\n"
        f"print(len(hvqbench.run('coarse', {str(images)!r}, metrics=['psnr'], results={str(results)!r})))\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, env=environment(), check=True)
    assert done.stdout == "4\n"


@pytest.mark.parametrize("kill_after", [0, 3, 7])
def test_killed_and_run_again_no_row_is_lost_and_none_double(
    catalog: Path, images: Path, results: Path, kill_after: int
) -> None:
    add_codec(catalog, "slow", "sleep = 0.02")
    points = ",".join(str(p) for p in range(1, 7))
    arguments = ["run", "--codec", "slow", "--dataset", str(images), "--metric", "psnr", "--results", str(results)]
    command = [sys.executable, "-m", "hvqbench", *arguments, "--points", points]
    process = subprocess.Popen(command, env=environment(), stdout=subprocess.DEVNULL, start_new_session=True)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and len(list(results.rglob("codec=slow/*.parquet"))) < kill_after:
        time.sleep(0.005)
    time.sleep(0.02 if kill_after else 0.8)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    survived = len(list(results.rglob("codec=slow/[!.]*.parquet")))
    assert survived >= kill_after
    before = encodings(catalog, "slow")
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=True)
    assert "slow" in done.stdout
    # What survived was not measured again. Of the others, one is the warm-up, and two may be the killed run's encoder,
    # which finishes what it was at before it finds itself alone.
    assert encodings(catalog, "slow") - before <= 12 - survived + 3
    raw = pd.read_parquet(results)  # as any other reader sees it
    assert len(raw) == len(hvqbench.read_results(results)) == 12
    assert len(raw[["point", "image"]].drop_duplicates()) == 12
    assert set(raw["status"]) == {"ok"}


def test_ctrl_c_leaves_a_store_that_can_be_resumed(catalog: Path, images: Path, results: Path) -> None:
    add_codec(catalog, "slow", "sleep = 0.3")
    arguments = ["run", "--codec", "slow", "--dataset", str(images), "--metric", "psnr", "--results", str(results)]
    command = [sys.executable, "-m", "hvqbench", *arguments, "--points", "1,2,3,4"]
    heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # what runs in the background inherits SIGINT ignored
    process = subprocess.Popen(
        command, env=environment(), stderr=subprocess.PIPE, text=True, start_new_session=True, preexec_fn=heard
    )
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not list(results.rglob("codec=slow/*.parquet")):
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in errors
    kept = hvqbench.read_results(results)
    assert 1 <= len(kept) < 8
    assert set(kept["status"]) == {"ok"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"codecs": "coarce"}, "unknown codec 'coarce': did you mean 'coarse'"),
        ({"metrics": ["psrn"]}, "unknown metric 'psrn': did you mean 'psnr'"),
        ({"jobs": 0}, "jobs is 0"),
        ({"limit": 0}, "limit is 0"),
        ({"points": []}, "points is empty"),
        ({"rerun": "sometimes"}, "rerun is 'sometimes'; it must be one of missing, failed, all, never"),
        ({"device": "warp"}, "cannot use device 'warp'"),
    ],
)
def test_wrong_arguments_say_so(
    catalog: Path, images: Path, results: Path, options: dict[str, object], message: str
) -> None:
    with pytest.raises(HvqbenchError, match=message):
        run(**{"codecs": "coarse", "images": images, "results": results, **options})  # type: ignore[arg-type]


def test_saving_is_told_against_fixed_length_at_the_same_point(catalog: Path, images: Path, results: Path) -> None:
    add_codec(catalog, "fixed-test")
    rows = run(["coarse", "fixed-test"], images, results)
    rows["codec"] = rows["codec"].replace({"fixed-test": "fixed-vq", "coarse": "mine"})
    rows["bytes.indices"] = rows["bytes"]
    rows.loc[rows["codec"] == "fixed-vq", "bytes"] *= 2
    table = [line.split() for line in summarize(rows).splitlines()]
    assert table[0][-5:-1] == ["saved", "enc", "MP/s", "dec"]
    saved = {(line[0], line[2]): line[-4:-2] for line in table[2:]}
    assert saved["mine", "1"] == saved["mine", "16"] == ["50.0", "%"]
    assert saved["fixed-vq", "1"][-1] == "-"
    other = rows.assign(reconstruction_sha256=rows["codec"] + rows["reconstruction_sha256"])
    assert "%" not in summarize(other)  # of other pixels
    rows.loc[rows["codec"] == "mine", "point_name"] = "quality"
    assert "%" not in summarize(rows)


@pytest.mark.parametrize("role", ["encoder", "judge"])
def test_no_row_is_of_pixels_that_were_exchanged_while_it_was_made(
    catalog: Path, images: Path, results: Path, monkeypatch: pytest.MonkeyPatch, role: str
) -> None:
    """Whoever reads an original checks that its pixels are those of the row's ``image_sha256``."""
    other = np.full((7, 9, 3), 50, np.uint8)
    if role == "encoder":  # the run takes a folder's digests as known, and is wrong

        def look_at_old(*arguments: object) -> list[object]:
            pictures = look_at(*arguments)  # type: ignore[arg-type]
            write_image(images / "a-dark.png", other)
            return pictures  # type: ignore[return-value]

        monkeypatch.setattr("hvqbench.bench.sweep.look_at", look_at_old)
    else:  # between encoding and judging
        exchange = "from hvqbench.image import write_image; "
        exchange += f"write_image(Path({str(images / 'a-dark.png')!r}), np.full((7, 9, 3), 50, np.uint8))"
        folder = add_codec(catalog, "coarse")
        source = ADAPTER.replace("def decode(self, data):", f"def decode(self, data):\n        {exchange}")
        (folder / "adapter.py").write_text(source)
    rows = run("coarse", images, results, points=[16]).set_index("image")
    assert rows["status"].to_dict() == {"a-dark": "failed", "b-light": "ok"}
    assert rows.loc["a-dark", "reason"].startswith(f"{role}: ")
    assert "a-dark.png has other pixels than when the run began" in rows.loc["a-dark", "reason"]
    monkeypatch.undo()
    monkeypatch.setenv("HVQBENCH_CATALOG", str(catalog))
    again = run("coarse", images, results, points=[16]).set_index("image")
    assert again["status"].to_dict() == {"a-dark": "ok", "b-light": "ok"}
    assert again.loc["a-dark", "image_sha256"] == image_digest(other)


def test_a_dead_process_is_replaced(catalog: Path) -> None:
    process = Process("decoder", threads=1)
    try:
        with pytest.raises(WorkerError, match="unknown codec 'nope'"):
            process.call("nope", "cpu", b"")
        assert process.pid
        os.kill(process.pid, signal.SIGSEGV)
        with pytest.raises(WorkerError, match="the decoder process was killed by SIGSEGV"):
            process.call("nope", "cpu", b"")
        with pytest.raises(WorkerError, match="unknown codec 'nope'"):
            process.call("nope", "cpu", b"")
    finally:
        process.close()


def environment() -> dict[str, str]:
    root = str(Path(hvqbench.__file__).parents[1])
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))}
