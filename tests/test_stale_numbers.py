"""Numbers that would belong to something else: to pixels that were replaced, to other images of the same names."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import hvqbench
from hvqbench.analysis.curves import mean_curve
from hvqbench.bench import plan
from hvqbench.bench.plan import look_at
from hvqbench.codec import image_digest
from hvqbench.data import load_dataset
from hvqbench.image import read_image


def ppm(path: Path, seed: int) -> None:
    """An image file of always the same size, whose times are set to 1970."""
    pixels = np.random.default_rng(seed).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"P6 32 24 255\n" + pixels.tobytes())
    os.utime(path, (0, 0))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(2):
        ppm(tmp_path / "images" / f"{number}.ppm", number)
    return tmp_path / "images"


def digests(folder: Path, cache: Path) -> list[str]:
    return [picture.sha256 for picture in look_at(load_dataset(folder), None, cache)]


def true_digests(folder: Path) -> list[str]:
    return [image_digest(read_image(path)) for path in sorted(folder.iterdir())]


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if all files were older than two seconds, so that they are remembered."""
    monkeypatch.setattr(plan, "_may_still_change", lambda state: False)


@pytest.mark.parametrize("how", ["written over", "replaced"])
def test_images_of_equal_size_and_times_are_not_taken_for_one_another(
    folder: Path, tmp_path: Path, settled: None, how: str
) -> None:
    cache = tmp_path / "cache.json"
    before = digests(folder, cache)
    assert before == true_digests(folder)
    if how == "replaced":
        ppm(tmp_path / "other" / "0.ppm", 7)
        (tmp_path / "other" / "0.ppm").replace(folder / "0.ppm")
    else:
        ppm(folder / "0.ppm", 7)
    now = digests(folder, cache)
    assert now == true_digests(folder)
    assert now[0] != before[0]


def test_what_is_remembered_is_of_one_reader_and_of_files_that_do_not_change(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache.json"
    reads = []
    monkeypatch.setattr("hvqbench.data.read_image", lambda path: reads.append(path) or read_image(path))
    for _ in range(2):
        digests(folder, cache)  # written a moment ago: a further change might leave size and times as they are
    assert len(reads) == 4
    monkeypatch.setattr(plan, "_may_still_change", lambda state: False)
    for _ in range(2):
        digests(folder, cache)
    assert len(reads) == 6
    monkeypatch.setattr(plan, "READER", "a later one")
    digests(folder, cache)
    assert len(reads) == 8
    content = json.loads(cache.read_text())
    next(iter(content["images"].values()))[-3] = 99  # a width that a flipped bit made
    cache.write_text(json.dumps(content))
    assert [p.width for p in look_at(load_dataset(folder), None, cache)] == [32, 32]


def test_colours_that_are_not_applied_are_said_each_time(
    folder: Path, tmp_path: Path, settled: None, capsys: pytest.CaptureFixture[str]
) -> None:
    from PIL import Image as pil
    from PIL import PngImagePlugin

    more = PngImagePlugin.PngInfo()
    more.add(b"cICP", bytes([9, 16, 0, 1]))
    for name in ("x", "y"):
        pil.new("RGB", (4, 4)).save(folder / f"{name}.png", pnginfo=more)
    for _ in range(2):
        digests(folder, tmp_path / "cache.json")
        said = "not applied, the pixels are taken for sRGB: cICP (primaries 9, transfer 16) of 2 images (x, y)"
        assert capsys.readouterr().err == f"hvqbench: {said}\n"


def test_a_row_is_never_of_other_pixels_than_it_names(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The images are replaced after they were looked at: the processes that read them notice."""

    def then_replaced(*arguments: object) -> list[plan.Picture]:
        found = look_at(*arguments)  # type: ignore[arg-type]
        ppm(folder / "0.ppm", 8)
        return found

    monkeypatch.setattr("hvqbench.bench.sweep.look_at", then_replaced)
    rows = hvqbench.run("jpeg", folder, metrics=["psnr"], points=[50], results=tmp_path / "r", progress=False)
    assert rows["status"].tolist() == ["failed", "ok"]
    assert "0.ppm has other pixels than when the run began" in rows["reason"][0]
    monkeypatch.undo()
    rows = hvqbench.run("jpeg", folder, metrics=["psnr"], points=[50], results=tmp_path / "r", progress=False)
    assert rows["status"].tolist() == ["ok", "ok"]
    assert rows["image_sha256"].tolist() == true_digests(folder)


def curve(codec: str, images: dict[str, str], better: float = 0.0) -> list[dict[str, object]]:
    return [
        {
            "dataset": "photos",
            "codec": codec,
            "image": image,
            "point": float(point),
            "status": "ok",
            "bpp": 0.1 * point * (1 + 0.05 * n),
            "psnr": 20 + 5 * np.log2(point) + better + n,
            "image_sha256": sha,
            "width": 64,
            "height": 64,
            "metrics": "{}",
            "started": "2026-01-01",
        }
        for n, (image, sha) in enumerate(images.items())
        for point in range(1, 6)
    ]


def test_images_of_one_name_and_different_pixels_are_not_paired() -> None:
    own, other = {f"{n:03}": f"sha{n}" for n in range(4)}, {f"{n:03}": f"other{n}" for n in range(4)}
    same = pd.DataFrame(curve("jpeg", own) + curve("webp", own, 1))
    assert hvqbench.bd_rate(same, "webp", "jpeg", "psnr").percent < -10
    apart = pd.DataFrame(curve("jpeg", own) + curve("webp", other, 1))
    bd = hvqbench.bd_rate(apart, "webp", "jpeg", "psnr")
    assert np.isnan(bd.percent)
    assert "pixels_differ" in bd.flags
    assert "images of one name with other pixels were left out" in bd.text
    one = pd.DataFrame(curve("jpeg", own) + curve("webp", own | {"001": "another"}, 1))
    bd = hvqbench.bd_rate(one, "webp", "jpeg", "psnr")
    left = same[same["image"] != "001"]
    assert (bd.images, bd.percent) == (3, hvqbench.bd_rate(left, "webp", "jpeg", "psnr").percent)
    assert "pixels_differ" in bd.flags
    unknown = same.drop(columns="image_sha256")  # as exchanged curves come
    assert hvqbench.bd_rate(unknown, "webp", "jpeg", "psnr").percent < -10


def test_a_curve_does_not_join_two_pictures_of_one_name() -> None:
    rows = pd.DataFrame(curve("jpeg", {"000": "a", "001": "b"}))
    whole = mean_curve(rows, "jpeg", "psnr")
    rows.loc[(rows["point"] == 3) & (rows["image"] == "000"), "image_sha256"] = "c"
    apart = mean_curve(rows, "jpeg", "psnr")
    assert (whole.images, apart.images) == (("000", "001"), ("001",))
    assert "1 images left out, of other pixels at other points: 000" in apart.notes


def test_a_carried_digest_is_part_of_what_an_image_is(folder: Path) -> None:
    (first, second) = load_dataset(folder).images
    assert replace(first, sha256="a") != first
    assert first != second
