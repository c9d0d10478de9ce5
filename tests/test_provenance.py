"""Why a row is what it is: its key's parts, and the command that makes it again."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

import hvqbench
from hvqbench import cli
from hvqbench.bench.provenance import why
from hvqbench.bench.store import Store
from hvqbench.errors import HvqbenchError


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("why") / "results"
    hvqbench.run("jpeg", "sample", metrics=["psnr"], points=[30, 50], limit=1, results=folder, progress=False)
    return folder


def test_the_key_is_made_of_its_parts(results: Path) -> None:
    row = Store(results).rows()[0]
    found = why(row["key"][:10], results)
    assert found.row["started"] == row["started"]
    assert found.counts
    assert found.consistent
    assert not found.changed
    assert found.ingredients["fingerprint"] == row["codec_fingerprint"]
    assert found.parts["image"].startswith(row["image_sha256"])
    assert why(f"jpeg/30/{row['image']}", results).text == found.text


def test_the_command_makes_the_row_again(
    results: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    row = Store(results).rows()[0]
    with pytest.raises(SystemExit) as caught:
        cli.main(["why", row["key"][:12], "--results", str(results)])
    assert not caught.value.code
    *_, before, command = capsys.readouterr().out.splitlines()
    assert before == "makes it again"
    with pytest.raises(SystemExit) as caught:
        cli.main([*shlex.split(command)[1:], "--limit", "1"])
    assert not caught.value.code
    again = next(r for r in Store(results).rows() if r["key"] == row["key"])
    assert again["started"] > row["started"]
    assert (again["bitstream_sha256"], again["psnr"]) == (row["bitstream_sha256"], row["psnr"])


def test_what_has_changed_is_said(results: Path, tmp_path: Path) -> None:
    row = Store(results).rows()[0]
    store = Store(tmp_path / "results")
    metrics = '{"psnr": "psnr/0", "gone": "gone/1"}'
    store.append(row | {"codec_fingerprint": "another", "metrics": metrics})
    found = why(row["key"], store.root)
    assert not found.consistent  # a fingerprint that does not belong to this key
    assert len(found.changed) == 3
    assert "psnr/0 then, psnr/1 now" in " ".join(found.changed)
    assert "measures anew" in found.text
    assert "the row was altered" in found.text
    store.append(row | {"codec": "lost", "key": "f" * 64})
    assert why("ffffff", store.root).changed[0] == "the codec is not here"


def test_no_such_row(results: Path, tmp_path: Path) -> None:
    for name in ("jpeg", "jpeg/31/coffee", "0123456789ab", ""):
        with pytest.raises(HvqbenchError, match=r"no row .*: give 6 or more digits of a key, or CODEC/POINT"):
            why(name, results)
    with pytest.raises(HvqbenchError, match="no results"):
        why("jpeg/30/coffee", tmp_path)
    for codec in ("one", "two"):
        Store(tmp_path).append(Store(results).rows()[0] | {"codec": codec})
    with pytest.raises(HvqbenchError, match="2 rows are"):
        why(Store(tmp_path).rows()[0]["key"], tmp_path)
