"""The store: what is written is what is read, by us and by others, whatever happens in between."""

from __future__ import annotations

import errno
import json
import math
import os
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest
from store_rows import ordinary_row, parquet_files

from hvqbench import cli
from hvqbench.bench import parquet
from hvqbench.bench import store as store_module
from hvqbench.bench.current import current
from hvqbench.bench.reading import read_results
from hvqbench.bench.rows import Row, set_key
from hvqbench.bench.store import Store
from hvqbench.errors import HvqbenchError
from hvqbench.files import atomic_write


def row(number: int = 0, **changes: Any) -> Row:
    return ordinary_row(number, **{"bytes.payload": 100, "ideal_bytes": math.nan, **changes})


def test_rows_come_back_as_they_were(store: Store) -> None:
    written = [row(0), row(1, image="kodim02", status="failed", reason="a 'quoted', [bracketed] ünicode reason")]
    for one in written:
        store.append(one)
    assert len(parquet_files(store)) == 2
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
    assert len(parquet_files(store)) == 2
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
    assert len(parquet_files(store)) == 4
    assert str(store.rows()) == before
    store.compact()
    assert len(parquet_files(store)) == 1
    assert str(store.rows()) == before


def test_half_a_file_is_never_seen(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.append(row(0))

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(HvqbenchError, match="No space left on device; make room there and run the same command again"):
        store.append(row(1, image="kodim02"))
    with pytest.raises(HvqbenchError, match="No space left on device"):
        store.keep_stream(b"bits")
    with pytest.raises(HvqbenchError, match=r"cannot write to .*results: No space left"):
        store.open()
    monkeypatch.undo()
    assert [r["image"] for r in store.rows()] == ["kodim01"]
    assert [p for p in store.root.rglob("*") if p.is_file()] == parquet_files(store)


def test_the_temporary_file_of_a_killed_run_is_no_row(store: Store) -> None:
    store.append(row(0))
    (parquet_files(store)[0].parent / ".0123.parquet.ab.tmp").write_bytes(b"PAR1 half")
    (parquet_files(store)[0].parent / ".0123.parquet").write_bytes(b"PAR1 half")
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
    metadata = pq.read_schema(parquet_files(store)[0]).metadata
    assert metadata[b"hvqbench.schema"] == b"2"


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


def test_only_what_is_asked_for_is_read(store: Store) -> None:
    for codec in ("jpeg", "webp"):
        store.append(row(0, codec=codec, reconstruction_sha256="r", encode_s=1.0))
        store.append(row(1, codec=codec, image="kodim02", reconstruction_sha256="s"))
        store.append(row(2, codec=codec, psnr=31.0, reconstruction_sha256="t"))
    whole = read_results(store.root)
    assert whole["psnr"].tolist() == [31.0, 30.0] * 2
    some = read_results(store.root, dataset="kodak", codecs=["webp"], columns=["psnr", "no such column"])
    assert some["codec"].tolist() == ["webp", "webp"]
    assert "encode_s" not in some
    pd.testing.assert_series_equal(some["psnr"], whole["psnr"][2:].reset_index(drop=True))
    (store.root / "dataset=kodak" / "codec=jpeg" / "damaged.parquet").write_bytes(b"PAR1 nonsense")
    assert len(read_results(store.root, codecs=["webp"])) == 2
    with pytest.raises(HvqbenchError, match="cannot read"):
        read_results(store.root)
    with pytest.raises(HvqbenchError, match="no results"):
        read_results(store.root, dataset="clic", codecs=["webp"])


def test_history_has_every_row_and_says_which_count(store: Store) -> None:
    store.append(row(0, key="a1"))
    store.append(row(1, key="a2", codec_fingerprint="v2"))
    store.append(row(2, key="a3", codec_fingerprint="v2", image="kodim02"))
    frame = read_results(store.root, history=True)
    assert dict(zip(frame["key"], frame["current"], strict=True)) == {"a1": False, "a2": True, "a3": True}
    assert set(read_results(store.root)["key"]) == {"a2", "a3"}
    assert read_results(store.root, history=True, columns=["psnr"])["current"].tolist() == frame["current"].tolist()


def test_a_set_counts_as_long_as_its_images_do(store: Store) -> None:
    images = [row(n, image=f"kodim{n}", key=f"k{n}", reconstruction_sha256=f"r{n}") for n in range(2)]
    whole = row(5, image="", status="set", key=set_key(images), psnr=math.nan, fid=3.0)
    for one in (*images, whole):
        store.append(one)
    for columns in (None, ["fid"]):
        assert read_results(store.root, columns=columns)["status"].tolist() == ["set", "ok", "ok"]
    assert current([*images, whole]) == [*images, whole]
    store.append(row(6, image="kodim1", key="k1", reconstruction_sha256="another"))
    for columns in (None, ["fid"]):
        assert read_results(store.root, columns=columns)["status"].tolist() == ["ok", "ok"]


def test_values_of_older_versions_of_a_metric_are_left_out_of_each_codec_on_its_own(store: Store) -> None:
    old, new = ({"metrics": json.dumps({"psnr": "psnr/1", "toy": f"toy/{version}"}), "toy": 1.0} for version in (1, 2))
    store.append(row(0, image="a", key="a", **new))
    store.append(row(1, image="b", key="b", **old))  # newer in time: went back to it
    store.append(row(2, codec="webp", **new))
    frame = read_results(store.root)
    assert frame["toy"].isna().tolist() == [True, False, False]
    assert [sorted(json.loads(text)) for text in frame["metrics"]] == [["psnr"], ["psnr", "toy"], ["psnr", "toy"]]
    assert frame["psnr"].notna().all()


def test_the_command_compacts(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(3):
        store.append(row(number, image=f"kodim{number}", key=f"k{number}"))
    before = str(store.rows())
    with pytest.raises(SystemExit) as caught:
        cli.main(["store", "compact", "--results", str(store.root)])
    assert not caught.value.code
    assert re.fullmatch(r"3 files, .* MB -> 1 files, .* MB\n", capsys.readouterr().out)
    assert str(store.rows()) == before
    assert not any(pa.types.is_dictionary(kind) for kind in pq.read_schema(parquet_files(store)[0]).types)
    with pytest.raises(SystemExit):
        cli.main(["store", "compact", "--results", str(store.root / "nothing")])
    assert "no results" in capsys.readouterr().err


def test_a_folder_without_results_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(HvqbenchError, match=r"no results in .*: run `hvqbench run` first"):
        read_results(tmp_path / "nothing")


def test_a_file_from_the_future_and_a_damaged_one_are_named(store: Store) -> None:
    store.append(row(0))
    (path,) = parquet_files(store)
    table = pq.ParquetFile(path).read()
    pq.write_table(table.replace_schema_metadata({parquet.SCHEMA_KEY: b"99"}), path)
    with pytest.raises(HvqbenchError, match="has schema 99, and this hvqbench reads 2: upgrade hvqbench"):
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
