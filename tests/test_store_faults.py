"""The store when something goes wrong: bits that flip, foreign files, clocks, kills, full disks, races."""

from __future__ import annotations

import errno
import os
import random
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from store_rows import ordinary_row, parquet_files

from hvqbench import cli, files
from hvqbench.bench import store as store_module
from hvqbench.bench.parquet import SCHEMA_KEY, read_file, to_parquet
from hvqbench.bench.reading import read_results
from hvqbench.bench.rows import Row, after
from hvqbench.bench.sealed import is_sealed
from hvqbench.bench.store import Partition, Store
from hvqbench.errors import HvqbenchError


def row(number: int = 0, **changes: Any) -> Row:
    own = {"image": f"kodim{number:02}", "key": f"k{number}", "bytes": 100 + number, "bpp": 0.25 + number / 100}
    own |= {"psnr": 30.0 + number, "metrics": '{"psnr": "psnr/1"}', "libraries": "{}", "command": "hvqbench run"}
    return ordinary_row(number, **own | changes)


def leftovers(store: Store) -> list[Path]:
    return [path for path in store.root.rglob("*") if path.is_file() and path.suffix not in (".parquet", ".bin")]


# --- bits ---


def test_every_flipped_bit_of_a_results_file_is_noticed_or_harmless(tmp_path: Path) -> None:
    good = to_parquet([row(number) for number in range(8)])
    path = tmp_path / "dataset=kodak" / "codec=jpeg" / "a.parquet"
    path.parent.mkdir(parents=True)
    path.write_bytes(good)
    values = read_file(path).to_pylist()
    rng = random.Random(0)
    footer = range(len(good) - int.from_bytes(good[-8:-4], "little") - 8, len(good))
    places = [rng.randrange(8 * len(good)) for _ in range(150)] + [8 * rng.choice(footer) for _ in range(150)]
    noticed = 0
    for place in places:
        bad = bytearray(good)
        bad[place // 8] ^= 1 << place % 8
        path.write_bytes(bad)
        try:
            found = read_file(path).to_pylist()
        except HvqbenchError as error:
            found, said = values, str(error)
            noticed += str(path) in said and "\n" not in said
        assert found == values, place
    assert noticed == len(places)


def test_a_damaged_file_is_named_with_what_to_run_again(store: Store) -> None:
    store.append(row(0))
    (path,) = parquet_files(store)
    content = bytearray(path.read_bytes())
    content[100] ^= 4
    path.write_bytes(content)
    with pytest.raises(HvqbenchError) as caught:
        read_results(store.root)
    assert str(caught.value) == (
        f"cannot read {path}: its checksum is wrong; remove the file and run codec jpeg over data set kodak again"
    )


def test_pages_have_checksums_of_their_own(tmp_path: Path) -> None:
    """For other readers, which do not know the seal."""
    good = to_parquet([row(number) for number in range(8)])
    meta = pq.read_metadata(pa.BufferReader(good)).row_group(0)
    column = next(meta.column(i) for i in range(meta.num_columns) if meta.column(i).path_in_schema == "psnr")
    bad = bytearray(good)
    bad[column.data_page_offset + column.total_compressed_size // 2] ^= 1
    with pytest.raises(OSError, match="CRC"):
        pq.ParquetFile(pa.BufferReader(bytes(bad)), page_checksum_verification=True).read()


def test_a_file_without_its_seal_is_damaged_and_one_of_before_seals_is_read(store: Store) -> None:
    written = [row(number) for number in range(3)]
    folder = store.root / "dataset=kodak" / "codec=jpeg"
    folder.mkdir(parents=True)
    table = read_file(_write(folder / "x.parquet", to_parquet(written)))
    (folder / "x.parquet").unlink()
    pq.write_table(table.replace_schema_metadata({SCHEMA_KEY: b"1"}), folder / "old.parquet")
    assert [r["psnr"] for r in store.rows()] == [30.0, 31.0, 32.0]
    store.append(row(3))
    store.compact()
    (path,) = parquet_files(store)
    assert is_sealed(path.read_bytes())
    assert len(store.rows()) == 4
    path.write_bytes(path.read_bytes().replace(b"sha256:", b"sha257:"))
    with pytest.raises(HvqbenchError, match="its checksum is missing"):
        store.rows()


def _write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


# --- foreign schemas ---

Change = Callable[[pa.Table], pa.Table]


def put(name: str, values: pa.Array) -> Change:
    return lambda t: t.set_column(t.schema.get_field_index(name), name, values)


STRANGE: dict[str, tuple[Change, str]] = {
    **{
        f"no {name}": ((lambda t, name=name: t.drop_columns([name])), f"no column {name}")
        for name in ("key", "started", "image", "status", "point", "codec_fingerprint")
    },
    "no columns": (lambda t: pa.table({}), "no column image"),
    "bytes as text": (put("bytes", pa.array(["x"] * 3)), "column bytes is of type string"),
    "a metric as text": (put("psnr", pa.array(["x"] * 3)), "column psnr is of type string"),
    "a point as text": (put("point", pa.array(["30"] * 3)), "column point is of type string"),
    "a time as a time": (put("started", pa.array([0] * 3, pa.timestamp("us"))), "column started is of type timestamp"),
    "a column of lists": (lambda t: t.append_column("extra", pa.array([[1]] * 3)), "column extra is of type list"),
    "a column of records": (lambda t: t.append_column("extra", pa.array([{"a": 1}] * 3)), "is of type struct"),
    "a column of text": (lambda t: t.append_column("extra", pa.array(["=cmd"] * 3)), "is of type string"),
    "the folder's column": (lambda t: t.append_column("codec", pa.array(["other"] * 3)), "which is the folder's"),
    "a column twice": (lambda t: t.append_column("psnr", t["psnr"]), "column psnr twice"),
    "no image's name": (put("image", pa.array([None] * 3, pa.string())), "column image has gaps"),
    "no time": (put("started", pa.array([None] * 3, pa.string())), "column started has gaps"),
    "an unknown status": (put("status", pa.array(["fine"] * 3)), "the status 'fine'"),
    "metrics that are no JSON": (put("metrics", pa.array(["{not json"] * 3)), "column metrics has"),
    "metrics that are a list": (put("metrics", pa.array(["[1]"] * 3)), "column metrics has"),
    "metrics of numbers": (put("metrics", pa.array(['{"psnr": 1}'] * 3)), "column metrics has"),
}


@pytest.mark.parametrize("name", STRANGE)
def test_a_foreign_schema_is_one_line(store: Store, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    change, reason = STRANGE[name]
    store.append(row(0))
    foreign = _foreign(store, change)
    for read in (read_results, lambda root: read_results(root, history=True), lambda root: Store(root).compact()):
        with pytest.raises(HvqbenchError, match=reason) as caught:
            read(store.root)
        assert str(foreign) in str(caught.value)
        assert "\n" not in str(caught.value)
    with pytest.raises(SystemExit) as ended:
        cli.main(["bd", "--anchor", "jpeg", "--metric", "psnr", "--results", str(store.root)])
    assert ended.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def _foreign(store: Store, change: Change, version: bytes = b"1") -> Path:
    path = store.root / "dataset=kodak" / "codec=jpeg" / "zz.parquet"
    table = read_file(_write(path, to_parquet([row(number) for number in range(3)])))
    changed = change(table)
    pq.write_table(changed.replace_schema_metadata({SCHEMA_KEY: version}), path)
    return path


@pytest.mark.parametrize("version", [b"abc", b"-1", b"9" * 5000, b"", b"1.0", b"\xff"])
def test_a_version_that_is_none_is_one_line(store: Store, version: bytes) -> None:
    _foreign_folder(store)
    _foreign(store, lambda table: table, version)
    with pytest.raises(HvqbenchError, match=r"was not written by hvqbench, or by something else since: restore it"):
        read_results(store.root)


def _foreign_folder(store: Store) -> None:
    (store.root / "dataset=kodak" / "codec=jpeg").mkdir(parents=True)


def test_narrowed_numbers_of_other_programs_are_read(store: Store) -> None:
    store.append(row(7))
    _foreign(store, lambda t: put("psnr", pa.array([30, 31, 32], pa.int32()))(put("bytes", pa.array([1.0, 2, 3]))(t)))
    frame = read_results(store.root)
    assert frame["psnr"].dtype == "float64"
    assert sorted(frame["bytes"]) == [1, 2, 3, 107]


def test_what_is_no_file_is_one_line(store: Store) -> None:
    folder = store.root / "dataset=kodak" / "codec=jpeg"
    store.append(row(0))
    (folder / "zz.parquet").symlink_to("/nowhere/x")
    for read in (lambda: read_results(store.root), lambda: store.compact()):
        with pytest.raises(HvqbenchError, match=r"zz\.parquet is a link to nothing: remove it"):
            read()
    (folder / "zz.parquet").unlink()
    (folder / "zz.parquet").mkdir()
    with pytest.raises(HvqbenchError, match=r"cannot read .*zz\.parquet: .*Is a directory"):
        read_results(store.root)


# --- time ---


def test_the_order_of_rows_does_not_hang_on_the_clock(store: Store) -> None:
    """A clock that ran fast by a day, and is right again: what was measured last counts."""
    now = datetime.now(UTC)
    fast = (now + timedelta(days=1)).isoformat(timespec="microseconds")
    store.append(row(0, status="failed", reason="broken", started=fast))
    again = Store(store.root)  # the next run
    right = again.append(row(0, started=now.isoformat(timespec="microseconds")))
    assert right["started"] > fast
    assert [r["status"] for r in store.rows()] == ["ok"]
    assert read_results(store.root)["status"].tolist() == ["ok"]
    newer = again.append(row(0, key="k2", codec_fingerprint="v2", psnr=40.0, started=now.isoformat()))
    assert newer["started"] > right["started"]
    assert read_results(store.root)["psnr"].tolist() == [40.0]
    again.compact()
    assert read_results(store.root)["psnr"].tolist() == [40.0]


def test_the_moment_after_another_sorts_after_it() -> None:
    for newest in ("2026-01-01T00:00:19", "2026-12-31T23:59:59.999999+00:00", "2026-01-01T00:00:00.5Z", "no time"):
        first = after("2020-01-01T00:00:00.000000+00:00", newest)
        assert first > newest
        assert after(newest, first) > first
    assert after("2030-01-01", "2026-01-01") == "2030-01-01"
    assert after("2026-01-01", "") == "2026-01-01"


# --- kills ---


@pytest.mark.parametrize("deleted", range(6))
def test_a_compaction_killed_in_its_delete_phase_loses_and_doubles_nothing(
    store: Store, monkeypatch: pytest.MonkeyPatch, deleted: int
) -> None:
    for number in range(6):
        store.append(row(number))
    before = str(store.rows())
    unlink, count = Path.unlink, 0

    def killed(self: Path, missing_ok: bool = False) -> None:
        nonlocal count
        if self.suffix == ".parquet":
            if count == deleted:
                raise KeyboardInterrupt
            count += 1
        unlink(self, missing_ok=missing_ok)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", killed)
        with pytest.raises(KeyboardInterrupt):
            store.compact()
    assert len(parquet_files(store)) == 7 - deleted
    assert str(Store(store.root).rows()) == before
    assert len(read_results(store.root)) == 6
    store.append(row(6))
    store.compact()
    assert len(parquet_files(store)) == 1
    assert [r["image"] for r in store.rows()] == [f"kodim{number:02}" for number in range(7)]


def test_processes_killed_while_they_write_and_merge_leave_whole_rows_and_nothing_else(store: Store) -> None:
    script = """
        import sys
        sys.path.insert(0, sys.argv[2])
        from test_store_faults import Store, row
        store = Store(sys.argv[1])
        store.open()
        n = len(store.rows())
        print("ready", flush=True)
        while True:
            store.append(row(n % 60, image=f"image{n}", key=f"k{n}"))
            store.keep_stream(str(n).encode() * 1000)
            print(n, flush=True)
            n += 1
            if n % 7 == 0:
                store.compact()
    """
    rng = random.Random(1)
    kept = -1
    for _ in range(5):
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(script), str(store.root), str(Path(__file__).parent)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(rng.uniform(0, 0.3))
        os.kill(process.pid, signal.SIGKILL)
        said, _ = process.communicate()
        kept = max([kept, *map(int, said.splitlines())])
        images = [r["image"] for r in Store(store.root).rows()]
        assert len(images) == len(set(images))
        assert {f"image{number}" for number in range(kept + 1)} <= set(images)
        kept = max(kept, len(images) - 1)
    Store(store.root).open()
    assert leftovers(store) == []
    store.compact()
    assert len(parquet_files(store)) == 1


def test_what_a_killed_process_left_half_written_is_swept_and_what_is_being_written_is_not(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.append(row(0))
    store.keep_stream(b"bits")
    places = [parquet_files(store)[0].parent, next((store.root / "_streams").iterdir()), store.root]
    dead = [place / ".a.parquet.0123abcd.tmp" for place in places]
    for path in dead:
        path.write_bytes(b"PAR1 half")
    seen = []

    def fsync(descriptor: int) -> None:  # in the midst of writing
        Store(store.root).open()
        seen.append(len(list(places[0].glob(".*.tmp"))))

    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda d: (monkeypatch.setattr(os, "fsync", real), fsync(d)))
    store.append(row(1))
    assert seen == [1]
    assert not any(path.exists() for path in dead)
    assert len(store.rows()) == 2
    assert leftovers(store) == []


def test_nothing_is_swept_where_there_are_no_locks(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "fcntl", None)
    (store.root / ".a.0123abcd.tmp").write_bytes(b"perhaps another machine's")
    store.append(row(0))
    store.open()
    assert len(leftovers(store)) == 1


# --- disks ---


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """A disk with as many bytes free as ``disk["free"]``: files take them, and give them back."""
    state = {"free": 10**9}
    unlink = Path.unlink

    def write(path: Path, data: bytes) -> None:
        if len(data) > state["free"]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        state["free"] -= len(data)
        path.write_bytes(data)

    def free(self: Path, missing_ok: bool = False) -> None:
        state["free"] += self.stat().st_size if self.suffix == ".parquet" and self.exists() else 0
        unlink(self, missing_ok=missing_ok)

    monkeypatch.setattr(store_module, "atomic_write", write)
    monkeypatch.setattr(Path, "unlink", free)
    return state


def test_compaction_on_a_nearly_full_disk_works_by_parts(store: Store, disk: dict[str, int]) -> None:
    for number in range(16):
        store.append(row(number))
    before = str(store.rows())
    one = parquet_files(store)[0].stat().st_size
    disk["free"] = int(1.7 * one)  # the whole would be larger
    assert len(to_parquet([row(number) for number in range(16)])) > 1
    done = store.compact()
    assert str(Store(store.root).rows()) == before
    assert done.files < 16
    for _ in range(4):  # what was freed makes room for more
        done = store.compact()
    assert (done.files, done.problem) == (1, "")
    assert str(Store(store.root).rows()) == before


def test_compaction_on_a_full_disk_loses_nothing_and_says_so(
    store: Store, disk: dict[str, int], capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(5):
        store.append(row(number))
    before, names = str(store.rows()), parquet_files(store)
    disk["free"] = 0
    done = store.compact()
    assert done.files == 5
    assert "No space left on device; make room there and run the same command again" in done.problem
    assert parquet_files(store) == names
    assert str(store.rows()) == before
    with pytest.raises(SystemExit) as ended:
        cli.main(["store", "compact", "--results", str(store.root)])
    assert ended.value.code == 2
    assert "No space left on device" in capsys.readouterr().err


def test_compaction_on_a_small_file_system(tmp_path: Path) -> None:
    """A real one, where this may be mounted."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip("no file system may be mounted here")
    try:
        store = Store(folder / "results")
        numbers = iter(range(10**4))

        def fill() -> None:
            for number in numbers:
                store.append(row(number % 60, image=f"i{number}", key=f"k{number}"))

        with pytest.raises(HvqbenchError, match="No space left on device; make room there"):
            fill()
        assert next(numbers) > 10
        before = str(Store(store.root).rows())
        store.compact()
        assert str(Store(store.root).rows()) == before
        assert leftovers(store) == []
    finally:
        subprocess.run(["umount", str(folder)], check=True)


# --- two at once ---


def test_a_listing_in_the_midst_of_anothers_compaction_misses_no_row(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The listing passed the union's place before it was there, and comes to the first file after it is gone."""
    for number in range(4):
        store.append(row(number))
    names = parquet_files(store)
    copies = {path: path.read_bytes() for path in names}
    Store(store.root).compact()
    union = parquet_files(store)
    for path in names[1:]:
        path.write_bytes(copies[path])
    listings = iter([names[1:]])
    real = Partition.files.fget
    assert real is not None
    monkeypatch.setattr(Partition, "files", property(lambda self: next(listings, None) or real(self)))
    assert sorted(r["image"] for r in Store(store.root).rows()) == [f"kodim{number:02}" for number in range(4)]
    assert union[0].exists()


def test_two_compactions_at_once_lose_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(5):
        store.append(row(number))
    before = str(store.rows())
    real = Store._write_file

    def while_another(self: Store, path: Path, data: bytes) -> None:
        monkeypatch.setattr(Store, "_write_file", real)
        Store(self.root).compact()
        real(self, path, data)

    monkeypatch.setattr(Store, "_write_file", while_another)
    store.compact()
    assert str(Store(store.root).rows()) == before
    store.compact()
    assert len(parquet_files(store)) == 1
    assert str(store.rows()) == before


# --- names ---


def test_long_names_in_any_script_and_folders_of_earlier_stores(store: Store) -> None:
    name = "写真データ集" * 8
    store.append(row(0, dataset=name, codec="кодек" * 10))
    assert [(r["dataset"], r["codec"]) for r in store.rows()] == [(name, "кодек" * 10)]
    assert read_results(store.root, dataset=name)["dataset"].tolist() == [name]
    table = pa.dataset.dataset(store.root, partitioning="hive").to_table()
    assert table["dataset"].to_pylist() == [name]
    with pytest.raises(HvqbenchError, match="File name too long; give the data set or the codec a shorter name"):
        store.append(row(0, dataset="é" * 200))
    shutil.rmtree(store.root)
    earlier = store.root / "dataset=%C3%A9t%C3%A9" / "codec=jpeg"
    earlier.mkdir(parents=True)
    (earlier / "a.parquet").write_bytes(to_parquet([row(0)]))
    again = Store(store.root)
    again.append(row(1, dataset="été"))
    assert [path.parent for path in parquet_files(again)] == [earlier] * 2
    assert len(again.rows("été")) == 2
