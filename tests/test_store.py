"""The store: what is written is what is read, by us and by others, whatever happens in between."""

from __future__ import annotations

import errno
import math
import os
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest

from hvqbench.bench import store as store_module
from hvqbench.bench.store import Row, Store, current, read_results
from hvqbench.errors import HvqbenchError
from hvqbench.files import atomic_write


def row(number: int = 0, **changes: Any) -> Row:
    """An ordinary row; *number* is its place in time."""
    return {
        "dataset": "kodak",
        "codec": "jpeg",
        "point": 5.0,
        "point_name": "quality",
        "image": "kodim01",
        "status": "ok",
        "reason": "",
        "bytes": 100,
        "bytes.payload": 100,
        "bpp": 0.25,
        "ideal_bytes": math.nan,
        "psnr": 30.0,
        "key": "k",
        "codec_fingerprint": "v1",
        "metrics": "{}",
        "started": f"2026-01-01T00:00:{number:02}",
        **changes,
    }


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "results")
    store.open()
    return store


def files(store: Store) -> list[Path]:
    return sorted(store.root.rglob("*.parquet"))


def test_rows_come_back_as_they_were(store: Store) -> None:
    written = [row(0), row(1, image="kodim02", status="failed", reason="a 'quoted', [bracketed] ünicode reason")]
    for one in written:
        store.append(one)
    assert len(files(store)) == 2
    read = store.rows("kodak")
    assert [r["reason"] for r in read] == [r["reason"] for r in written]
    assert math.isnan(read[0].pop("ideal_bytes"))
    assert read[0] == {name: value for name, value in written[0].items() if name != "ideal_bytes"}
    assert store.rows("another") == []


def test_compaction_keeps_every_row_once(store: Store) -> None:
    for number in range(20):
        store.append(row(number, image=f"kodim{number % 10:02}", psnr=float(number)))
    store.append(row(0, codec="webp"))
    before = str(store.rows())
    store.compact()
    assert str(store.rows()) == before
    assert len(files(store)) == 2
    assert [r["psnr"] for r in store.rows() if r["codec"] == "jpeg"] == [float(n) for n in range(10, 20)]


def test_a_crash_before_the_merged_files_are_removed_doubles_nothing(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        store.append(row(number, image=f"kodim{number}"))

    def killed(self: Path, missing_ok: bool = False) -> None:
        raise KeyboardInterrupt

    before = str(store.rows())
    with monkeypatch.context() as patch:
        patch.setattr(store_module, "atomic_write", lambda path, data: path.write_bytes(data))
        patch.setattr(Path, "unlink", killed)
        with pytest.raises(KeyboardInterrupt):
            store.compact()
    assert len(files(store)) == 4
    assert str(store.rows()) == before
    store.compact()
    assert len(files(store)) == 1
    assert str(store.rows()) == before


def test_half_a_file_is_never_seen(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.append(row(0))

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(HvqbenchError, match="No space left on device; make room there and run the same command again"):
        store.append(row(1, image="kodim02"))
    with pytest.raises(HvqbenchError, match="No space left on device"):
        store.compact() or store.keep_stream(b"bits")
    with pytest.raises(HvqbenchError, match=r"cannot write to .*results: No space left"):
        store.open()
    monkeypatch.undo()
    assert [r["image"] for r in store.rows()] == ["kodim01"]
    assert [p for p in store.root.rglob("*") if p.is_file()] == files(store)


def test_the_temporary_file_of_a_killed_run_is_no_row(store: Store) -> None:
    store.append(row(0))
    (files(store)[0].parent / ".0123.parquet.ab.tmp").write_bytes(b"PAR1 half")
    (files(store)[0].parent / ".0123.parquet").write_bytes(b"PAR1 half")
    assert len(store.rows()) == 1


def test_other_readers_read_the_folder_as_it_is(store: Store) -> None:
    store.append(row(0))
    store.append(row(1, codec="my codec/β", image="kodim02", **{"bytes.z": 7, "dists": 0.25}))
    store.keep_stream(b"bits")
    frame = pd.read_parquet(store.root)
    assert sorted(frame["image"]) == ["kodim01", "kodim02"]
    table = pyarrow.dataset.dataset(store.root, partitioning="hive").to_table()
    assert set(table["codec"].to_pylist()) == {"jpeg", "my codec/β"}
    assert {r["codec"] for r in store.rows()} == {"jpeg", "my codec/β"}
    metadata = pq.read_schema(files(store)[0]).metadata
    assert metadata[b"hvqbench.schema"] == b"1"


def test_columns_of_several_codecs_are_joined(store: Store) -> None:
    store.append(row(0))
    store.append(row(1, codec="vq", dists=0.25, **{"bytes.z": 7}))
    frame = read_results(store.root)
    assert list(frame.columns[:4]) == ["dataset", "codec", "point", "point_name"]
    assert frame["bytes"].dtype == "int64"
    assert frame["bytes.z"].isna().tolist() == [True, False]
    assert frame["dists"].dtype == "float64"
    assert frame["reason"].tolist() == ["", ""]


def test_bitstreams_are_kept_by_hash_and_checked(store: Store) -> None:
    sha256 = "6e6bc4e49dd477ebc98ef4046c067b5f63d5ff8ae4ac0ff5a0b2fe7f0a7c0e6c"
    assert store.stream(sha256) is None
    store.keep_stream(b"bits")
    (path,) = (store.root / "_streams").rglob("*.bin")
    assert path.parent.name == path.name[:2]
    assert store.stream(path.stem) == b"bits"
    path.write_bytes(b"bats")
    assert store.stream(path.stem) is None
    store.keep_stream(b"bits")
    assert store.stream(path.stem) == b"bits"


def test_the_newest_version_of_a_codec_is_the_only_one_that_counts() -> None:
    rows = [
        row(0, image="a", key="a1"),
        row(1, image="b", key="b1"),
        row(2, image="a", key="a2", codec_fingerprint="v2"),
        row(3, codec="webp", image="b", key="w"),
    ]
    assert [r["key"] for r in current(rows)] == ["a2", "w"]
    # An image that changed: one version, two keys.
    assert [r["key"] for r in current([*rows, row(4, image="a", key="a3", codec_fingerprint="v2")])] == ["a3", "w"]


def test_a_row_that_is_measured_again_moves_to_its_new_place_in_time(store: Store) -> None:
    store.append(row(0, key="a1"))
    store.append(row(1, key="a2", codec_fingerprint="v2"))
    store.append(row(2, key="a1"))
    assert [r["key"] for r in store.rows()] == ["a2", "a1"]
    assert [r["key"] for r in current(store.rows())] == ["a1"]


def test_a_row_without_a_point_counts_until_there_is_better_news() -> None:
    absent = {"point": None, "image": "", "status": "unavailable", "key": "unavailable", "codec_fingerprint": ""}
    unreadable = {"point": None, "image": "a", "status": "failed", "key": "failed"}
    assert [r["status"] for r in current([row(0, **absent)])] == ["unavailable"]
    assert [r["status"] for r in current([row(0, **absent), row(1)])] == ["ok"]
    assert [r["status"] for r in current([row(0), row(1, **absent)])] == ["ok", "unavailable"]
    rows = [row(0, **unreadable), row(1, image="b", key="b")]
    assert [r["image"] for r in current(rows)] == ["a", "b"]
    assert [r["status"] for r in current([*rows, row(2, image="a", key="a")])] == ["ok", "ok"]


def test_a_folder_without_results_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(HvqbenchError, match=r"no results in .*: run `hvqbench run` first"):
        read_results(tmp_path / "nothing")


def test_a_file_from_the_future_and_a_damaged_one_are_named(store: Store) -> None:
    store.append(row(0))
    (path,) = files(store)
    table = pq.ParquetFile(path).read()
    pq.write_table(table.replace_schema_metadata({store_module.SCHEMA_KEY: b"99"}), path)
    with pytest.raises(HvqbenchError, match="has schema 99, and this hvqbench reads 1: upgrade hvqbench"):
        store.rows()
    path.write_bytes(b"PAR1 nonsense")
    with pytest.raises(HvqbenchError, match=rf"cannot read {path}: .*remove the file"):
        store.rows()


def test_a_folder_that_cannot_be_written_is_found_out_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(HvqbenchError, match=r"cannot write to .*file.* choose another folder \(--results\)"):
        Store(tmp_path / "file").open()


def test_atomic_write_replaces_all_or_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "out"
    atomic_write(path, b"first")
    monkeypatch.setattr(Path, "replace", lambda self, target: (_ for _ in ()).throw(OSError("killed")))
    with pytest.raises(OSError, match="killed"):
        atomic_write(path, b"second")
    assert path.read_bytes() == b"first"
    assert list(tmp_path.iterdir()) == [path]
