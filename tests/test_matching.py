"""Codecs at one rate or one quality, with the files that show it."""

from __future__ import annotations

import csv
import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest
from skimage import data as photographs

from hvqbench import cli, load_codec, load_metric
from hvqbench.errors import HvqbenchError
from hvqbench.image import read_image, write_image
from hvqbench.matching import RECORDS, TABLE, Match, as_table, match
from hvqbench.rate_control import Target

ADAPTER = """
import os
from hvqbench.adapters.pillow import PillowCodec

class Own(PillowCodec):
    {}
"""
WEBP = (Path(__file__).parents[1] / "codecs" / "webp" / "codec.toml").read_text()


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    photo = np.ascontiguousarray(photographs.astronaut()[:160, 160:320])
    write_image(folder / "first.png", photo)
    write_image(folder / "second.png", np.ascontiguousarray(photo[::-1, :120]))
    return folder


def write_codec(tmp_path: Path, name: str, member: str) -> str:
    """WebP with a member more, in a folder of its own."""
    folder = tmp_path / "codecs" / name
    folder.mkdir(parents=True)
    (folder / "codec.toml").write_text(WEBP.replace('adapter = "pillow"\n', ""))
    (folder / "adapter.py").write_text(ADAPTER.format(member))
    return str(folder)


def run(codecs: list[str], target: str, images: Path, out: Path) -> list[Match]:
    return match(codecs, Target.parse(target), images, out, progress=False)


def test_a_quality_is_met_by_every_codec_on_every_image(images: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    matches = run(["jpeg", "webp"], "psnr=32", images, out)
    assert [(m.codec, m.image, m.status) for m in matches] == [
        (codec, image, "ok") for codec in ("jpeg", "webp") for image in ("first", "second")
    ]
    for m in matches:
        original, picture = read_image(images / f"{m.image}.png"), read_image(out / m.picture)
        data = (out / m.stream).read_bytes()
        assert len(data) == m.bytes
        assert m.bpp == pytest.approx(8 * len(data) / original[..., 0].size)
        np.testing.assert_array_equal(load_codec(m.codec).decode(data), picture)
        np.testing.assert_array_equal(read_image(out / m.image / "original.png"), original)
        assert m.value == m.psnr == pytest.approx(load_metric("psnr")(original, picture))
        assert m.value is not None
        assert 32 <= m.value < 33
        assert m.point is not None
        worse = load_codec(m.codec).encode(original, m.point - 1).data
        assert load_metric("psnr")(original, load_codec(m.codec).decode(worse)) < 32


def test_a_rate_is_met_or_the_row_says_by_how_much_it_is_missed(images: Path, tmp_path: Path) -> None:
    matches = run(["jpeg", "webp"], "bpp=1", images, tmp_path / "out")
    for m in matches:
        assert m.value == m.bpp
        assert m.bpp is not None
        near = abs(m.bpp - 1) <= 0.02
        assert m.status == ("ok" if near else "missed")
        assert near != bool(m.reason)
        assert m.bpp == pytest.approx(1, abs=0.1)
    coarse = "def encode(self, image, point):\n        return super().encode(image, 90 if point > 50 else 5)"
    (missed, _) = run([write_codec(tmp_path, "coarse", coarse)], "bpp=1", images, tmp_path / "coarse")
    assert missed.status == "missed"
    assert missed.bpp is not None
    assert f"{100 * abs(missed.bpp - 1):.1f} % {'above' if missed.bpp > 1 else 'below'}" in missed.reason
    assert (tmp_path / "coarse" / missed.picture).is_file()


def test_what_cannot_reach_it_stops_nobody(images: Path, tmp_path: Path) -> None:
    lacking = write_codec(tmp_path, "lacking", 'unavailable = lambda self: "x.pt is missing: fetch it"')
    raising = write_codec(tmp_path, "raising", "decode = lambda self, data: 1 / 0")
    unlike = write_codec(tmp_path, "unlike", "digest = lambda self, data, image: str(os.getpid())")
    out = tmp_path / "out"
    matches = run([lacking, raising, unlike, "jpeg", "webp"], "bpp=0.25", images / "first.png", out)
    assert [(m.codec, m.status) for m in matches] == [
        ("lacking", "unavailable"),
        ("raising", "failed"),
        ("unlike", "failed"),
        ("jpeg", "failed"),
        ("webp", "ok"),
    ]
    reasons = [m.reason for m in matches]
    assert reasons[0] == "x.pt is missing: fetch it"
    assert reasons[1].startswith("ZeroDivisionError")
    assert "another process decodes the stream to something else" in reasons[2]
    assert reasons[3].startswith("jpeg cannot reach bpp 0.25 on this image: its bpp goes from")
    assert sorted(path.name for path in (out / "first").iterdir()) == ["original.png", "webp.bin", "webp.png"]


def test_the_table_is_there_for_people_and_for_programs(images: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    matches = run(["jpeg", "webp"], "psnr=30", images, out)
    with (out / TABLE).open() as file:
        rows = list(csv.DictReader(file))
    records = json.loads((out / RECORDS).read_text())
    assert [row["codec"] for row in rows] == [record["codec"] for record in records] == [m.codec for m in matches]
    assert [int(row["bytes"]) for row in rows] == [record["bytes"] for record in records] == [m.bytes for m in matches]
    assert all(record["target"] == "psnr=30" for record in records)
    text = as_table(matches, Target("psnr", 30))
    lines = [line.split() for line in text.splitlines()]
    assert lines[0] == ["codec", "image", "point", "bytes", "bpp", "psnr", "status"]
    jpeg = [m for m in matches if m.codec == "jpeg"]
    mean = next(line for line in lines if line[:4] == ["jpeg", "mean", "of", "2"])
    assert mean[4:] == [
        f"{np.mean([getattr(m, kind) for m in jpeg]):.{digits}f}"
        for kind, digits in (("bytes", 0), ("bpp", 4), ("psnr", 2))
    ]


def test_reasons_are_told_once_below_the_table() -> None:
    failed = [Match("a", image, "bpp=1", "failed", "too little") for image in ("x", "y", "z")]
    text = as_table([*failed, Match("b", "", "bpp=1", "unavailable", "no weights: fetch them")], Target("bpp", 1))
    assert text.count("too little") == 1
    assert "a failed: too little (x and 2 more)" in text
    assert text.endswith("b unavailable: no weights: fetch them")
    assert "mean of" not in text


def test_a_mean_says_of_how_many_images_and_how_many_of_these_missed() -> None:
    made = {"point_name": "q", "point": 1.0, "bytes": 10, "bpp": 1.0, "psnr": 30.0}
    own = [Match("a", image, "bpp=1", status, **made) for image, status in zip("xyz", ("ok", "missed", "ok"))]  # type: ignore[arg-type]  # noqa: B905
    text = as_table([*own, Match("a", "w", "bpp=1", "failed", "too little")], Target("bpp", 1))
    assert re.search(r"^a +mean of 3 +10 +1\.0000 +30\.00 +1 missed, of 4$", text, re.MULTILINE)


def test_no_infinity_in_json(tmp_path: Path) -> None:
    write_image(tmp_path / "plain.png", np.full((16, 16, 3), 128, np.uint8))
    (found,) = run(["jpeg"], "psnr=60", tmp_path / "plain.png", tmp_path / "out")
    assert found.psnr == float("inf")
    assert json.loads((tmp_path / "out" / RECORDS).read_text(), parse_constant=pytest.fail)[0]["psnr"] is None


def test_two_codecs_of_one_name_share_no_file(images: Path, tmp_path: Path) -> None:
    with pytest.raises(HvqbenchError, match="have one name"):
        run(["jpeg", write_codec(tmp_path, "jpeg", "pass")], "bpp=1", images, tmp_path / "out")


def matched(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[object, str, str]:
    with pytest.raises(SystemExit) as caught:
        cli.main(["match", *map(str, arguments)])
    out, err = capsys.readouterr()
    return caught.value.code, out, err


def test_the_command(capsys: pytest.CaptureFixture[str], images: Path, tmp_path: Path) -> None:
    options = ["--codec", "jpeg,webp", "--dataset", images / "first.png", "--out", tmp_path / "out"]
    code, text, _ = matched(capsys, "--quality", "psnr=32", *options)
    assert code == 0
    assert text.splitlines()[0].split() == ["codec", "image", "point", "bytes", "bpp", "psnr", "status"]
    assert str(tmp_path / "out" / TABLE) in text
    code, text, _ = matched(capsys, "--bpp", "0.25", *options, "--json")
    assert code == 1
    assert [record["status"] for record in json.loads(text)] == ["failed", "ok"]


def test_a_missed_target_is_said_and_is_the_exit_status(
    capsys: pytest.CaptureFixture[str], images: Path, tmp_path: Path
) -> None:
    coarse = "def encode(self, image, point):\n        return super().encode(image, 90 if point > 50 else 5)"
    name = write_codec(tmp_path, "coarse", coarse)
    options = ["--dataset", images, "--out", tmp_path / "out"]
    code, text, said = matched(capsys, "--bpp", "1", "--codec", f"{name},webp", *options)
    assert re.findall(r"^coarse +(\S+).* missed$", text, re.MULTILINE) == ["first", "second", "mean"]
    assert said.splitlines()[-1] == "hvqbench: 2 of 4 did not reach bpp 1: their nearest is there"
    assert code == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--codec", "jpeg", "--dataset", "sample"], "--bpp 0.1, or --quality lpips-alex=0.2"),
        (["--bpp", "1", "--quality", "psnr=30", "--codec", "jpeg", "--dataset", "sample"], "give one of them"),
        (["--bpp", "1", "--codec", "jpeg", "--dataset", "sample", "--image", "cofee"], "did you mean 'coffee'"),
        (["--quality", "bpp", "--codec", "jpeg", "--dataset", "sample"], "'bpp' is not a target"),
        (["--bpp", "1", "--codec", "jpg", "--dataset", "sample"], "unknown codec 'jpg'"),
        (["--bpp", "1", "--codec", "jpeg", "--dataset", "/no/such.png"], "no folder or image /no/such.png"),
    ],
)
def test_a_wrong_command_is_one_line(capsys: pytest.CaptureFixture[str], arguments: list[str], message: str) -> None:
    code, out, err = matched(capsys, *arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1


def test_the_documentation_names_every_column() -> None:
    text = (Path(__file__).parents[1] / "docs" / "matching.md").read_text(encoding="utf-8")
    rows = [re.findall(r"`(\w+)`", line.split("|")[1]) for line in text.splitlines() if line.startswith("| `")]
    assert {name for row in rows for name in row} == {field.name for field in dataclasses.fields(Match)}


def test_images_with_like_names_share_no_file(images: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for number, name in enumerate(("a b", "a,b", "a-b", "写真")):
        write_image(images / f"{name}.png", np.full((16, 16, 3), 50 * number, np.uint8))
    for m in run(["jpeg"], "psnr=30", images, out):
        np.testing.assert_array_equal(
            read_image((out / m.picture).with_name("original.png")), read_image(images / f"{m.image}.png")
        )
    assert {"a-b", "写真"} < {path.name for path in out.iterdir()}
