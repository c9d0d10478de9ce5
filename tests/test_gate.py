"""The gate: what is worse is caught and named, what is not passes, and nothing compared is no pass."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from hvqbench import cli
from hvqbench.analysis.baseline import Baseline, as_csv, read_baseline, save_baseline
from hvqbench.analysis.bootstrap import NONE
from hvqbench.analysis.gate import check, judge
from hvqbench.analysis.gate_report import to_junit, to_markdown, to_text
from hvqbench.bench.store import Store
from hvqbench.errors import HvqbenchError

ROOT = Path(__file__).parents[1]
IMAGES = [f"image{number}" for number in range(8)]
VERSIONS = '{"psnr": "psnr/1"}'


def make_results(rng: np.random.Generator, codecs: tuple[str, ...] = ("curve", "single")) -> pd.DataFrame:
    rows = []
    for codec in codecs:
        points = (0.0,) if codec == "single" else (10.0, 20.0, 30.0, 40.0)
        for image in IMAGES:
            size = rng.uniform(800, 3000)
            for place, point in enumerate(points):
                name = f"{codec} {image} {point}"
                row = {"dataset": "toy", "codec": codec, "point": point, "point_name": "q", "image": image}
                row |= {"status": "ok", "reason": "", "width": 100, "height": 100, "protocol": ""}
                row |= {"bytes": round(size * 2**place), "psnr": 25 + 4.0 * place + rng.normal(0, 1)}
                row |= {"metrics": VERSIONS, "started": "2026", "key": name, "codec_fingerprint": codec}
                row |= {"image_sha256": image, "bitstream_sha256": name, "digest": name, "reconstruction_sha256": name}
                rows.append(row | {"bpp": 8 * row["bytes"] / 1e4})
    return pd.DataFrame(rows)


@pytest.fixture
def results() -> pd.DataFrame:
    return make_results(np.random.default_rng(11))


@pytest.fixture
def baseline(results: pd.DataFrame, tmp_path: Path) -> Baseline:
    save_baseline(results, tmp_path / "toy.parquet")
    return read_baseline(tmp_path / "toy.parquet")


def with_bytes(results: pd.DataFrame, factor: float, codec: str = "curve") -> pd.DataFrame:
    """The codec made worse on purpose: so many times the bytes, for the same pixels."""
    worse = results.copy()
    chosen = worse["codec"] == codec
    worse["bytes"] = np.where(chosen, np.ceil(worse["bytes"] * factor), worse["bytes"])
    worse["bpp"] = 8 * worse["bytes"] / 1e4
    worse.loc[chosen, "bitstream_sha256"] += " rewritten"
    worse.loc[chosen, "codec_fingerprint"] = "another version"
    return worse


def with_other_pixels(results: pd.DataFrame, codec: str, decibels: np.ndarray | float) -> pd.DataFrame:
    other = with_bytes(results, 1, codec)
    chosen = other["codec"] == codec
    other.loc[chosen, ["reconstruction_sha256", "digest"]] += " changed"
    other.loc[chosen, "psnr"] += decibels
    return other


def test_a_codec_one_per_cent_worse_is_caught_and_named(baseline: Baseline, results: pd.DataFrame) -> None:
    report = check(baseline, with_bytes(results, 1.01))
    assert report.exit_code == 1
    assert {finding.codec for finding in report.of("worse")} == {"curve"}
    assert [finding.what for finding in report.of("worse")] == [
        *("bytes at q 10", "bytes at q 20", "bytes at q 30", "bytes at q 40", "BD-rate in psnr")
    ]
    rate = report.of("worse")[-1]
    assert rate.change == pytest.approx(1, abs=0.05)
    assert rate.interval[0] > 0
    assert len(rate.images) == 3
    assert rate.images[0].startswith("image")
    assert "regression: curve worse" in report.headline


@pytest.mark.parametrize("seed", range(20))
def test_an_unchanged_codec_passes(seed: int, tmp_path: Path) -> None:
    results = make_results(np.random.default_rng(seed))
    save_baseline(results, tmp_path / "toy.parquet")
    shuffled = results.sample(frac=1, random_state=seed)
    report = check(read_baseline(tmp_path / "toy.parquet"), shuffled, tolerance=0)
    assert report.exit_code == 0
    assert report.compared == 2 + 5 + 2  # digests of both, bytes at five points, BD-rate and a point's PSNR
    assert all(finding.verdict == "fine" for finding in report.findings)


def test_one_per_cent_is_caught_where_pixels_changed_too(baseline: Baseline, results: pd.DataFrame) -> None:
    rng = np.random.default_rng(0)
    other = with_other_pixels(results, "curve", rng.normal(0, 0.002, (results["codec"] == "curve").sum()))
    assert check(baseline, other).exit_code == 0
    report = check(baseline, with_bytes(other, 1.01))
    assert [finding.what for finding in report.of("worse")] == ["BD-rate in psnr"]


NOISE = dict(zip(IMAGES, (1.4, 0.8, 1.3, 0.85, 1.35, 0.8, 1.3, 0.85), strict=True))
"""Some images need more bytes, others fewer."""


def with_noise(results: pd.DataFrame) -> pd.DataFrame:
    noise = with_bytes(results, 1)
    chosen = noise["codec"] == "curve"
    noise["bytes"] = np.where(chosen, np.ceil(noise["bytes"] * noise["image"].map(NOISE)), noise["bytes"])
    noise["bpp"] = 8 * noise["bytes"] / 1e4
    return noise


def test_bytes_of_the_same_pixels_are_counted_and_no_sample(baseline: Baseline, results: pd.DataFrame) -> None:
    """A total that grew has grown, though some images need fewer bytes."""
    noise = with_noise(results)
    report = check(baseline, noise, tolerance=0)
    assert report.exit_code == 1
    worse = [finding for finding in report.of("worse") if finding.what.startswith("bytes")]
    for point, finding in zip((10, 20, 30, 40), worse, strict=True):
        at_point = (results["codec"] == "curve") & (results["point"] == point)
        own = [table.loc[at_point, "bytes"].sum() for table in (noise, results)]
        assert finding.what == f"bytes at q {point}"
        assert finding.change == pytest.approx(100 * (own[0] / own[1] - 1))
        assert finding.change > 5
        assert np.isnan(finding.interval).all()
        assert [name.split()[0] for name in finding.images[:2]] == ["image0", "image4"]
        assert "more for 4 of 8 images, fewer for 4" in finding.text
    assert check(baseline, noise, tolerance=20).exit_code == 0


def test_one_byte_more_is_more(baseline: Baseline, results: pd.DataFrame) -> None:
    grown = with_bytes(results, 1)
    grown.loc[(grown["codec"] == "curve") & (grown["point"] == 40) & (grown["image"] == "image3"), "bytes"] += 1
    report = check(baseline, grown, tolerance=0)
    (finding,) = report.of("worse")
    assert finding.what == "bytes at q 40"
    assert finding.change < 0.01
    assert check(baseline, grown).exit_code == 0


def test_images_that_grew_are_said_though_the_total_shrank(baseline: Baseline, results: pd.DataFrame) -> None:
    smaller = with_bytes(results, 0.5)
    smaller.loc[(smaller["codec"] == "curve") & (smaller["image"] == "image3"), "bytes"] *= 2.2
    report = check(baseline, smaller, tolerance=0)
    assert report.exit_code == 0
    said = [finding.note for finding in report.of("better") if finding.what.startswith("bytes")]
    assert said == ["more for 1 of 8 images, fewer for 7"] * 4


def test_one_image_restored_otherwise_does_not_hide_the_bytes_of_the_others(
    baseline: Baseline, results: pd.DataFrame
) -> None:
    grown = with_bytes(results, 1.01)
    grown.loc[(grown["codec"] == "curve") & (grown["image"] == "image3"), "digest"] = "changed"
    grown.loc[grown["image"] == "image3", "bytes"] /= 2  # of other indices, and no saving of these
    report = check(baseline, grown)
    found = {finding.what: finding.change for finding in report.of("worse") if finding.what.startswith("bytes")}
    assert list(found) == [f"bytes at q {point} of 7 of 8 images" for point in (10, 20, 30, 40)]
    assert list(found.values()) == pytest.approx([1] * 4, abs=0.1)


def test_bd_rates_within_the_tolerance_or_the_noise_are_fine(baseline: Baseline, results: pd.DataFrame) -> None:
    assert check(baseline, with_bytes(results, 1.01), tolerance=1.5).exit_code == 0
    # Several per cent on average where pixels changed, but up for some images and down for others.
    noise = with_noise(results)
    noise.loc[noise["codec"] == "curve", "digest"] += " changed"
    report = check(baseline, noise)
    (rate,) = (finding for finding in report.findings if finding.what == "BD-rate in psnr")
    assert rate.change > 0.5
    assert rate.interval[0] < 0 < rate.interval[1]
    assert report.exit_code == 0


@pytest.mark.parametrize(
    ("change", "interval", "verdict"),
    [
        *((1, (0.01, 2), "worse"), (1, (0, 2), "fine"), (1, (-0.01, 2), "fine"), (0.5, (0.4, 0.6), "fine")),
        *((-1, (-2, -0.01), "better"), (-1, (-2, 0), "fine"), (-1, (-2, 0.01), "fine"), (-0.5, (-0.6, -0.4), "fine")),
        *((0.51, NONE, "worse"), (0.5, NONE, "fine"), (-0.5, NONE, "fine"), (-0.51, NONE, "better")),
    ],
)
def test_beyond_the_limit_and_the_interval_on_one_side_of_zero(
    change: float, interval: tuple[float, float], verdict: str
) -> None:
    assert judge(change, 0.5, interval) == verdict


@pytest.mark.parametrize("images", [1, 4])
def test_under_five_images_the_tolerance_alone_decides(
    images: int, baseline: Baseline, results: pd.DataFrame, tmp_path: Path
) -> None:
    few = results[results["image"].isin(IMAGES[:images])]
    save_baseline(few, tmp_path / "few.parquet")
    changed = with_other_pixels(few, "curve", np.random.default_rng(0).normal(0, 0.002, 4 * images))
    report = check(read_baseline(tmp_path / "few.parquet"), with_bytes(changed, 1.01))
    (rate,) = report.of("worse")
    assert (report.exit_code, rate.what) == (1, "BD-rate in psnr")
    assert rate.change == pytest.approx(1, abs=0.1)
    assert np.isnan(rate.interval).all()
    assert check(read_baseline(tmp_path / "few.parquet"), with_bytes(changed, 1.01), tolerance=1.5).exit_code == 0
    assert check(read_baseline(tmp_path / "few.parquet"), with_bytes(changed, 0.98)).of("better")


def test_what_became_better_is_said_and_passes(baseline: Baseline, results: pd.DataFrame) -> None:
    report = check(baseline, with_bytes(results, 0.9))
    assert report.exit_code == 0
    assert len(report.of("better")) == 5


def test_a_single_point_may_neither_grow_nor_lose_quality(baseline: Baseline, results: pd.DataFrame) -> None:
    assert check(baseline, with_bytes(results, 1.01, "single")).exit_code == 1
    report = check(baseline, with_other_pixels(results, "single", -1))
    assert [(finding.codec, finding.what) for finding in report.of("worse")] == [("single", "psnr at q 0")]
    assert check(baseline, with_other_pixels(results, "single", 1)).exit_code == 0


def test_curves_that_no_longer_meet_are_caught(baseline: Baseline, results: pd.DataFrame) -> None:
    report = check(baseline, with_other_pixels(results, "curve", -30))
    assert report.exit_code == 1
    assert {finding.what for finding in report.of("worse")} == {f"psnr at q {point}" for point in (10, 20, 30, 40)}


def test_other_bytes_of_the_same_code_are_caught(baseline: Baseline, results: pd.DataFrame) -> None:
    changed = (results["codec"] == "curve") & (results["image"] == "image3")
    results.loc[changed, "bitstream_sha256"] = "other"
    report = check(baseline, results)
    assert report.exit_code == 1
    (finding,) = report.of("worse")
    assert (finding.what, finding.images) == ("digests", ("image3",))


def test_digests_are_held_only_where_asked_and_where_the_code_is_the_same(
    baseline: Baseline, results: pd.DataFrame, tmp_path: Path
) -> None:
    changed = results.copy()
    changed.loc[changed["codec"] == "curve", "bitstream_sha256"] = "other"
    assert check(baseline, changed.assign(codec_fingerprint="new version")).exit_code == 0
    save_baseline(results, tmp_path / "loose.parquet", exact=["single"])
    report = check(read_baseline(tmp_path / "loose.parquet"), changed)
    assert report.exit_code == 0
    assert [finding.codec for finding in report.findings if finding.what == "digests"] == ["single"]
    stochastic = results.assign(protocol="stochastic")
    save_baseline(stochastic, tmp_path / "stochastic.parquet")
    assert not read_baseline(tmp_path / "stochastic.parquet").rows["exact"].any()


@pytest.mark.parametrize("damage", ["nothing", "other codec", "other points", "other pixels", "unavailable"])
def test_an_empty_comparison_is_not_fine(baseline: Baseline, results: pd.DataFrame, damage: str) -> None:
    if damage == "nothing":
        results = results[:0]
    elif damage == "other codec":
        results = results.assign(codec="another")
    elif damage == "other points":
        results = results.assign(point=results["point"] + 1)
    elif damage == "other pixels":
        results = results.assign(image_sha256="others")
    else:
        results = results[:1].assign(status="unavailable", reason="no binary: install it", image="", point=np.nan)
    report = check(baseline, results)
    assert report.exit_code == 2
    assert report.compared == 0
    assert "not measured" in report.headline
    if damage == "unavailable":
        assert "no binary: install it" in to_text(report)


def test_a_part_that_could_not_be_measured_is_not_fine(baseline: Baseline, results: pd.DataFrame) -> None:
    report = check(baseline, results[~((results["codec"] == "curve") & (results["image"] == "image0"))])
    assert report.exit_code == 2
    (finding,) = report.of("not measured")
    assert finding.images == ("image0",)
    assert report.compared == len(report.findings) - 1


def test_images_without_the_metric_are_not_fine(baseline: Baseline, results: pd.DataFrame) -> None:
    """An out-of-memory metric leaves an image's value empty, and a curve is then of the other images."""
    for codec, compared in (("curve", "BD-rate in psnr"), ("single", "psnr at q 0")):
        unmeasured = with_other_pixels(results, codec, 0)
        unmeasured.loc[(unmeasured["codec"] == codec) & (unmeasured["image"] != "image0"), "psnr"] = np.nan
        report = check(baseline, unmeasured)
        assert report.exit_code == 2
        (finding,) = report.of("not measured")
        assert (finding.codec, finding.what, finding.images[-1]) == (codec, "psnr", "4 more")
        assert compared in {finding.what for finding in report.findings}


def test_points_that_broke_are_caught_though_a_bd_rate_leaves_them_out(
    baseline: Baseline, results: pd.DataFrame
) -> None:
    broken = with_other_pixels(results, "curve", 0)
    chosen = (broken["codec"] == "curve") & (broken["point"] >= 30)
    broken.loc[chosen, "psnr"] = 25.0
    report = check(baseline, broken)
    assert report.exit_code == 1
    assert {finding.what for finding in report.of("worse")} >= {"psnr at q 30", "psnr at q 40"}
    (curve,) = (finding for finding in report.findings if finding.what == "BD-rate in psnr")
    assert "not monotone" in curve.note


def test_a_decoder_that_fails_now_is_worse(baseline: Baseline, results: pd.DataFrame) -> None:
    lost = (results["codec"] == "curve") & (results["image"] == "image0")
    results.loc[lost, ["status", "reason"]] = ["failed", "the decoder disagrees"]
    report = check(baseline, results)
    assert report.exit_code == 1
    (finding,) = report.of("worse")
    assert "4 of 32 failed: the decoder disagrees" in finding.text
    assert finding.images == ("image0",)


def test_another_version_of_a_metric_is_not_compared(baseline: Baseline, results: pd.DataFrame) -> None:
    report = check(baseline, results.assign(metrics='{"psnr": "psnr/2"}'))
    assert report.exit_code == 2
    assert {finding.what for finding in report.of("not measured")} == {"BD-rate in psnr"}
    assert "save the baseline again" in to_text(report)


@pytest.mark.parametrize("codec", ["curve", "single"])
def test_values_of_another_version_of_a_metric_are_not_counted(
    codec: str, baseline: Baseline, results: pd.DataFrame
) -> None:
    """As of a ``score`` that was stopped: one image has the new version, whose values are of another scale."""
    mixed = with_other_pixels(results, codec, 0)
    scored = (mixed["codec"] == codec) & (mixed["image"] == "image5")
    mixed.loc[scored, ["metrics", "started"]] = ['{"psnr": "psnr/2"}', "2027"]
    mixed.loc[scored, "psnr"] -= 20
    report = check(baseline, mixed)
    (stale,) = report.of("not measured")
    assert (report.exit_code, stale.what, stale.images) == (2, "psnr", ("image5",))
    assert "another version of psnr" in stale.text
    quality = "BD-rate in psnr" if codec == "curve" else "psnr at q 0"
    (compared,) = (f for f in report.findings if (f.codec, f.what) == (codec, quality))
    assert compared.verdict == "fine"
    assert compared.change == 0


def test_an_interval_is_written_in_one_form(baseline: Baseline, results: pd.DataFrame) -> None:
    bytes_of = {"worse": with_bytes(results, 1.01), "fine": results}
    for verdict, rows in bytes_of.items():
        report = check(baseline, rows)
        assert any(finding.verdict == verdict for finding in report.findings if finding.what == "BD-rate in psnr")
        for told in (to_text(report), to_markdown(report)):
            assert re.search(r"[+-]\d+\.\d\d % \[[+-]\d+\.\d\d to [+-]\d+\.\d\d %\]", told), told
            assert not re.search(r"\[[+-]\d+\.\d\d(,| to [+-]\d+\.\d\d\])", told), told


def test_what_a_pull_request_and_a_server_read(baseline: Baseline, results: pd.DataFrame) -> None:
    report = check(baseline, with_bytes(results, 1.01))
    markdown = to_markdown(report)
    assert "### ✗ BD-rate gate" in markdown
    assert "| ✗  | toy        | curve   | BD-rate in psnr | +1.0" in markdown
    assert "<details><summary>3 fine</summary>" in markdown
    suites = ET.fromstring(to_junit(report))
    assert {suite.get("name"): suite.get("failures") for suite in suites} == {"toy": "5"}
    failures = [case.get("classname") for case in suites.iter("testcase") if case.find("failure") is not None]
    assert failures == ["toy.curve"] * 5
    assert len(list(suites.iter("testcase"))) == len(report.findings)


def test_a_baseline_of_nothing_and_unknown_names_are_refused(results: pd.DataFrame, tmp_path: Path) -> None:
    with pytest.raises(HvqbenchError, match="a baseline of nothing"):
        save_baseline(results.assign(status="failed"), tmp_path / "x.parquet")
    with pytest.raises(HvqbenchError, match="did you mean 'curve'"):
        save_baseline(results, tmp_path / "x.parquet", codecs=["curv"])
    with pytest.raises(HvqbenchError, match="no baseline"):
        read_baseline(tmp_path / "x.parquet")
    (tmp_path / "x.parquet").write_bytes(b"no parquet")
    with pytest.raises(HvqbenchError, match="is no baseline"):
        read_baseline(tmp_path / "x.parquet")


def test_a_baseline_has_a_readable_twin_that_shows_what_changed(results: pd.DataFrame, tmp_path: Path) -> None:
    path = tmp_path / "toy.parquet"
    save_baseline(results, path, exact=["single"])
    before = path.with_suffix(".csv").read_text(encoding="utf-8").splitlines()
    assert before[:3] == ["# baseline toy", "# curve on toy: metrics psnr/1", "# single on toy: metrics psnr/1"]
    table = pd.read_csv(path.with_suffix(".csv"), comment="#")
    saved = read_baseline(path).rows
    assert table["bytes"].tolist() == saved["bytes"].tolist()
    assert table["psnr"].tolist() == pytest.approx(saved["psnr"].tolist(), rel=1e-5)
    assert set(table.loc[table["exact"] == "exact", "codec"]) == {"single"}
    changed = results.copy()
    changed.loc[(changed["codec"] == "curve") & (changed["image"] == "image3") & (changed["point"] == 20), "bytes"] += 1
    save_baseline(changed, path, exact=["single"])
    after = path.with_suffix(".csv").read_text(encoding="utf-8").splitlines()
    (differ,) = [new for old, new in zip(before, after, strict=True) if old != new]
    assert differ.startswith("toy,curve,q,20,image3,")


def test_a_baseline_is_found_by_its_name_and_the_others_are_listed(
    results: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    save_baseline(results, Path("reports/baselines/mine.parquet"))
    assert read_baseline("mine").name == "mine"
    for unknown in ("minee", "reports/baselines/minee.parquet"):
        with pytest.raises(HvqbenchError, match=r"did you mean 'mine'\? there are mine, sample; save one"):
            read_baseline(unknown)


def test_the_readable_twin_stays_the_same_while_no_number_changes(
    results: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, later = tmp_path / "first" / "toy.parquet", tmp_path / "later" / "toy.parquet"
    save_baseline(results, first)
    monkeypatch.setattr("hvqbench.bench.task.now", lambda: "2099-01-01T00:00:00")
    save_baseline(results.assign(codec_fingerprint=results["codec_fingerprint"] + "-2"), later)
    assert first.with_suffix(".csv").read_bytes() == later.with_suffix(".csv").read_bytes()
    known = read_baseline(later)  # what was saved when, and of which code
    assert known.saved == "2099-01-01T00:00:00"
    assert known.rows["codec_fingerprint"].str.endswith("-2").all()


def test_check_on_the_command_line(
    results: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    _store(results, "good")
    _store(with_bytes(results, 1.01), "worse")
    _store(results.assign(codec="another"), "other")

    def run(*arguments: str) -> int:
        with pytest.raises(SystemExit) as stop:
            cli.main(list(arguments))
        return int(stop.value.code or 0)

    assert run("baseline", "save", "toy", "--results", "good") == 0
    against = ("check", "--baseline", "reports/baselines/toy.parquet")
    assert run(*against, "--results", "good") == 0
    assert run(*against, "--results", "worse", "--markdown", "out/pr.md", "--junit", "out/gate.xml") == 1
    assert run(*against, "--results", "worse", "--tolerance", "2%") == 0
    assert run(*against, "--results", "other") == 2
    assert run(*against, "--results", "nowhere") == 2
    assert run(*against, "--results", "good", "--tolerance", "little") == 2
    assert "tolerance 'little'" in capsys.readouterr().err
    assert "regression" in (tmp_path / "out" / "pr.md").read_text()
    assert ET.parse(tmp_path / "out" / "gate.xml").getroot().tag == "testsuites"
    assert (tmp_path / "summary.md").read_text().count("### ") == 4


def test_check_runs_what_the_baseline_was_saved_of(tmp_path: Path) -> None:
    def hvqbench(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "hvqbench", *arguments]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    run = ("run", "--dataset", "sample", "--limit", "2", "--metric", "psnr")
    assert hvqbench(*run, "--codec", "jpeg", "--points", "10,40").returncode == 0
    assert hvqbench("baseline", "save", "mine").returncode == 0
    done = hvqbench("check", "--baseline", "reports/baselines/mine.parquet")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (
        "jpeg  digests, bytes at quality 10 +0.00 %, bytes at quality 40 +0.00 %, BD-rate in psnr +0.00 %"
        in done.stdout
    )


def test_the_committed_baseline_is_of_the_sample_and_has_hypervq() -> None:
    sample = read_baseline(ROOT / "reports" / "baselines" / "sample.parquet")
    assert set(sample.rows["dataset"]) == {"sample"}
    assert set(sample.rows["codec"]) == {"fixed-vq", "huffman-vq", "hypervq", "jpeg"}
    assert len(sample.rows[(sample.rows["codec"] == "hypervq") & (sample.rows["point"] == 0)]) == 8
    assert sample.metrics == ["psnr"]
    assert (ROOT / "reports" / "baselines" / "sample.csv").read_text(encoding="utf-8") == as_csv(sample)


def test_the_workflow_runs_a_command_that_there_is() -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "bd-rate.yml").read_text(encoding="utf-8"))
    inputs = workflow[True]["workflow_call"]["inputs"]  # YAML 1.1 reads the key `on` as a truth value
    steps = workflow["jobs"]["check"]["steps"]
    compare = next(step["run"] for step in steps if step.get("name") == "Compare")
    assert {"baseline", "tolerance", "catalog"} <= inputs.keys()
    assert compare.startswith("hvqbench check --baseline ")
    used = {name for step in steps for name in inputs if f"inputs.{name}" in str(step)}
    assert used | {"timeout-minutes"} == inputs.keys()
    # No input is pasted into a script: they reach it as variables.
    assert not any("${{" in step.get("run", "") for step in steps)


def _store(results: pd.DataFrame, folder: str) -> None:
    store = Store(folder)
    store.open()
    for row in results.to_dict("records"):
        store.append({str(name): value for name, value in row.items()})
