"""``store rm`` removes the rows that are named, and the bitstreams that only these have."""

from __future__ import annotations

from pathlib import Path

import pytest

import hvqbench
from hvqbench import cli
from hvqbench.bench import removal
from hvqbench.bench.removal import remove
from hvqbench.bench.store import Store
from hvqbench.errors import HvqbenchError


@pytest.fixture
def results(images: Path, tmp_path: Path) -> Path:
    """JPEG at two points over two images, WebP at one; and one JPEG bitstream that a row of another set has too."""
    place = tmp_path / "results"
    codecs = ["jpeg@5,50", "webp@50"]
    hvqbench.run(codecs, images, metrics=["psnr"], results=place, progress=False)
    store = Store(place)
    row = next(row for row in store.rows() if row["codec"] == "jpeg" and row["point"] == 5)
    store.append(row | {"dataset": "other"})
    return place


def left(results: Path) -> list[tuple[str, str, float]]:
    return sorted({(row["dataset"], row["codec"], row["point"]) for row in Store(results).rows()})


def streams(results: Path) -> set[str]:
    return {path.stem for path in results.rglob("*.bin")}


def test_a_point_goes_with_its_streams_and_the_rest_is_as_it_was(results: Path) -> None:
    before = {(r["codec"], r["point"], r["image"]): r for r in Store(results).rows("pictures")}
    found = remove(results, ["jpeg@5"], ["pictures"])
    assert [(part.codec, part.points, part.rows, part.of) for part in found.parts] == [("jpeg", (5.0,), 2, 4)]
    assert left(results) == [("other", "jpeg", 5.0), ("pictures", "jpeg", 50.0), ("pictures", "webp", 50.0)]
    after = {(r["codec"], r["point"], r["image"]): r for r in Store(results).rows("pictures")}
    assert str(after) == str({place: row for place, row in before.items() if place[:2] != ("jpeg", 5.0)})
    # One of the two bitstreams belongs to a row of the other set as well.
    assert found.streams == 1
    referred = {row["bitstream_sha256"] for row in Store(results).rows()}
    assert streams(results) == referred


def test_a_codec_and_a_data_set_go_with_their_folders(results: Path) -> None:
    assert remove(results, ["classic"], ["other"]).streams == 0
    assert not (results / "dataset=other").exists()
    remove(results, ["webp"])
    assert left(results) == [("pictures", "jpeg", 5.0), ("pictures", "jpeg", 50.0)]
    remove(results, datasets=["pictures"])
    assert not list(results.glob("dataset=*"))
    assert not streams(results)


def test_a_row_that_comes_meanwhile_stays(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(results)
    row = store.rows("pictures")[0]

    def late(place: object, files: object, table: object, goes: object) -> None:
        store.append(row | {"image": "late", "key": "late"})
        rewrite(place, files, table, goes)  # type: ignore[arg-type]

    rewrite = removal._rewrite
    monkeypatch.setattr(removal, "_rewrite", late)
    remove(results, ["jpeg"], ["pictures"])
    assert [r["image"] for r in Store(results).rows("pictures", {"jpeg"})] == ["late"]


def test_what_is_not_there_is_one_line(results: Path, tmp_path: Path) -> None:
    for arguments, said in (
        ((["jpge"],), "no codec 'jpge': did you mean 'jpeg'"),
        (([], ["picture"]), "no data set 'picture': did you mean 'pictures'"),
        ((["jpeg@7"],), "there is no such row: the points are 5, 50"),
        (((), (), (5,)), "name what is to go"),
    ):
        with pytest.raises(HvqbenchError, match=said):
            remove(results, *arguments)  # type: ignore[arg-type]
    with pytest.raises(HvqbenchError, match="no results in"):
        remove(tmp_path / "nothing", ["jpeg"])


def test_the_command_removes_nothing_until_it_is_told_to(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def rm(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as caught:
            cli.main(["store", "rm", "--results", str(results), *arguments])
        return int(caught.value.code or 0), *capsys.readouterr()

    before = left(results)
    code, out, err = rm("--codec", "jpeg,webp", "--dataset", "pictures", "--point", "50")
    assert (code, err) == (0, "hvqbench: nothing was removed: add --yes to the same command\n")
    assert out.splitlines()[:2] == ["pictures jpeg at 50: 2 of 4 rows", "pictures webp at 50: 2 of 2 rows"]
    assert left(results) == before
    code, again, err = rm("--codec", "jpeg,webp", "--dataset", "pictures", "--point", "50", "--yes")
    assert (code, again, err) == (0, out, "")
    assert left(results) == [("other", "jpeg", 5.0), ("pictures", "jpeg", 5.0)]
