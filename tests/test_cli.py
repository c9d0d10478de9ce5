"""The command line, run as a user runs it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from skimage.data import astronaut

from hvqbench import cli
from hvqbench.image import read_image, write_image

ROOT = Path(__file__).parents[1]


def hvqbench(*arguments: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "hvqbench", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=cwd, check=False)


def error_of(capsys: pytest.CaptureFixture[str], *arguments: str | Path, code: int = 2) -> str:
    """The one line that a command that fails says."""
    with pytest.raises(SystemExit) as caught:
        cli.main([str(a) for a in arguments])
    assert caught.value.code == code
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("hvqbench: ")
    return lines[0]


def test_a_data_set_that_is_not_here_says_what_there_is_to_download(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for variable in ("HVQBENCH_DATA", "HVQBENCH_CACHE"):
        monkeypatch.setenv(variable, str(tmp_path))
    lines = {line.split()[0]: line for line in said(capsys, "ls", "datasets").splitlines()}
    assert lines["kodak"].endswith("(15 MB to download)")
    assert "to download" not in lines["sample"]
    sizes = {entry["id"]: entry["megabytes"] for entry in json.loads(said(capsys, "ls", "datasets", "--json"))}
    assert (sizes["kodak"], sizes["sample"]) == (15, 0)


def said(capsys: pytest.CaptureFixture[str], *arguments: str | Path, code: int = 0) -> str:
    """What a command prints to stdout."""
    with pytest.raises(SystemExit) as caught:
        cli.main([str(a) for a in arguments])
    assert (caught.value.code or 0) == code
    return capsys.readouterr().out


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "picture.png"
    write_image(path, np.random.default_rng(0).integers(0, 256, (24, 40, 3), dtype=np.uint8))
    return path


def cpu_seconds() -> float:
    """Of all processes that were started and have ended: the machine may be busy with something else."""
    times = os.times()
    return times.children_user + times.children_system


def test_help_is_quick() -> None:
    took = []
    for _ in range(5):
        start = cpu_seconds()
        assert hvqbench("--help").returncode == 0
        took.append(cpu_seconds() - start)
    assert min(took) < 0.3


def test_nothing_heavy_is_imported_for_help() -> None:
    script = "import sys, hvqbench, hvqbench.cli; print(*(m for m in sys.modules if '.' not in m))"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=True)
    assert not {"torch", "pandas", "matplotlib", "numpy", "pyarrow", "scipy"} & set(done.stdout.split())


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, "--version").startswith("hvqbench ")


@pytest.mark.parametrize(("kind", "known"), [("codecs", "jpeg"), ("datasets", "sample"), ("metrics", "psnr")])
def test_ls(capsys: pytest.CaptureFixture[str], kind: str, known: str) -> None:
    lines = {line.split()[0]: line.split()[1] for line in said(capsys, "ls", kind).splitlines()}
    assert lines[known] == "ready"
    entries = {entry["id"]: entry for entry in json.loads(said(capsys, "ls", kind, "--json"))}
    assert lines.keys() == entries.keys()
    assert {name for name, state in lines.items() if state == "ready"} == {n for n, e in entries.items() if e["ready"]}
    assert all(entry["ready"] or entry["reason"] for entry in entries.values())
    alone = said(capsys, "ls", kind, known)
    assert alone.split()[:2] == [known, "ready"]
    assert alone.count("\n") == 1
    assert f"did you mean '{known}'" in error_of(capsys, "ls", kind, known + known[-1])


def test_ls_filters_by_name_tag_and_what_is_ready(capsys: pytest.CaptureFixture[str]) -> None:
    def names(*arguments: str) -> list[str]:
        return [line.split()[0] for line in said(capsys, "ls", "codecs", *arguments).splitlines()]

    assert (
        {"jpeg", "jpeg2000", "jpegxl"} <= set(names("jpeg*")) <= {name for name in names() if name.startswith("jpeg")}
    )
    classic = names("classic")
    assert "vvenc" in classic
    assert "hypervq" not in classic
    assert set(names("classic", "hypervq")) == {*classic, "hypervq"}
    ready = json.loads(said(capsys, "ls", "codecs", "classic", "--ready", "--json"))
    assert ready
    assert all(entry["ready"] for entry in ready)


def test_ls_shows_what_cannot_run_and_hides_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HVQBENCH_CATALOG", "")
    for name, toml in {"broken": "points = 3", "lacking": 'adapter = "no_such:Thing"\nsummary = "s"\n'}.items():
        folder = tmp_path / "codecs" / name
        folder.mkdir(parents=True)
        (folder / "codec.toml").write_text(toml + '\npoint_name = "q"\n' + "points = [1]\n" * (name == "lacking"))
    reason = "cannot load 'no_such:Thing': No module named 'no_such'; install the package"
    text = said(capsys, "ls", "codecs", "--catalog", tmp_path)
    assert re.search(r"^lacking +-  +s$", text, re.MULTILINE)
    assert "(no valid codec.toml)" in text
    assert "jpeg" in text
    assert reason not in text
    assert reason in said(capsys, "ls", "codecs", "--catalog", tmp_path, "--reasons")
    assert reason in said(capsys, "ls", "codecs", "--catalog", tmp_path, "lacking")


def test_every_command_is_in_one_group_of_the_help_and_its_summary_is_whole(capsys: pytest.CaptureFixture[str]) -> None:
    from hvqbench.commands.groups import GROUPS

    command: Any = typer.main.get_command(cli.app)
    grouped = [name for names in GROUPS.values() for name in names]
    assert sorted(grouped) == sorted(command.commands)
    text = " ".join(said(capsys, "--help").split())
    for title in GROUPS:
        assert f" {title}: " in text
    for name, child in command.commands.items():
        assert f" {name} {' '.join(child.help.split())}" in text
    assert "..." not in text.partition("Options:")[2]


def test_options_of_one_name_are_of_one_kind() -> None:
    """``--metric`` is metric ids everywhere, ``--image`` names of images, and each explains itself."""
    command: Any = typer.main.get_command(cli.app)
    found: dict[str, set[tuple[str, bool]]] = {}

    def walk(command: Any) -> None:
        for parameter in command.params:
            for option in parameter.opts if parameter.param_type_name == "option" else ():
                assert getattr(parameter, "help", None), (command.name, option)
                found.setdefault(option, set()).add((parameter.name, parameter.multiple))
        for child in getattr(command, "commands", {}).values():
            walk(child)

    walk(command)
    assert {multiple for _, multiple in found["--metric"]} == {True}
    assert {multiple for _, multiple in found["--image"]} == {True}


@pytest.mark.parametrize(
    ("line", "expected", "unexpected"),
    [
        ("run --codec hyp", "hypervq", "jpeg"),
        ("run --codec jpeg,web", "jpeg,webp", "webp"),
        ("run --codec class", "classic", "jpeg"),
        ("bd --metric lpips-", "lpips-alex", "psnr"),
        ("run --dataset ko", "kodak", "sample"),
        ("report pa", "paper", "pretty"),
        ("compare vv", "vvenc", "jpeg"),
        ("ls metrics ms", "ms-ssim", "psnr"),
    ],
)
def test_the_shell_completes_names(line: str, expected: str, unexpected: str) -> None:
    words = ["hvqbench", *line.split()]
    environment = os.environ | {"_HVQBENCH_COMPLETE": "complete_bash", "COMP_WORDS": " ".join(words)}
    environment |= {"COMP_CWORD": str(len(words) - 1)}
    script = "from hvqbench.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=False)
    assert expected in done.stdout.split(), done.stderr
    assert unexpected not in done.stdout.split()


def test_run_then_bd_then_report(tmp_path: Path, picture: Path) -> None:
    arguments = ["run", "--codec", "jpeg,webp", "--dataset", picture.parent, "--metric", "psnr"]
    points = ["--points", "10,30", "--points", "50,70"]
    first = hvqbench(*arguments, *points, cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    lines = [line.split() for line in first.stdout.splitlines()]
    assert lines[0] == ["codec", "point", "images", "bpp", "psnr", "enc", "MP/s", "dec", "MP/s"]
    assert [line[0] for line in lines[2:]] == ["jpeg"] * 4 + ["webp"] * 4
    assert (tmp_path / "results").is_dir()

    start = cpu_seconds()
    second = hvqbench(*arguments, *points, cwd=tmp_path)
    assert second.stdout == first.stdout
    assert cpu_seconds() - start < 3

    told = hvqbench("bd", "--anchor", "jpeg", "--metric", "psnr", cwd=tmp_path)
    assert told.returncode == 0, told.stderr
    assert "webp needs" in told.stdout
    table = json.loads(hvqbench("bd", "--anchor", "jpeg", "--metric", "psnr", "--json", cwd=tmp_path).stdout)
    assert table[0]["codec"] == "webp"
    assert table[0]["anchor_points"] == 4

    written = hvqbench("report", "--out", "figures", cwd=tmp_path)
    assert written.returncode == 0, written.stderr
    assert all((tmp_path / line).is_file() for line in written.stdout.splitlines())
    assert "figures/report.md" in written.stdout


def test_failed_rows_are_told_and_exit_with_1(tmp_path: Path, picture: Path) -> None:
    (picture.parent / "corrupt.png").write_bytes(picture.read_bytes()[:80])
    done = hvqbench(
        "run", "--codec", "jpeg", "--dataset", picture.parent, "--metric", "psnr", "--points", "10", cwd=tmp_path
    )
    assert done.returncode == 1
    assert "jpeg   quality 10       1" in done.stdout
    assert "1 failed (--rerun failed tries them again):" in done.stdout
    assert "corrupt" in done.stdout
    assert "Traceback" not in done.stderr


def test_compress_and_decompress(capsys: pytest.CaptureFixture[str], tmp_path: Path, picture: Path) -> None:
    stream, restored = tmp_path / "picture.jpg", tmp_path / "restored.png"
    line = said(capsys, "compress", picture, stream, "--codec", "jpeg", "--point", "95")
    assert f"{stream.stat().st_size} bytes" in line
    said(capsys, "decompress", stream, restored, "--codec", "jpeg")
    assert read_image(restored).shape == (24, 40, 3)
    # A stream that cannot be decoded leaves what was there.
    before = restored.read_bytes()
    stream.write_bytes(stream.read_bytes()[:-9])
    assert "no whole JPEG file" in error_of(capsys, "decompress", stream, restored, "--codec", "jpeg")
    stream.write_bytes(b"")
    assert "no whole JPEG file (0 bytes)" in error_of(capsys, "decompress", stream, restored, "--codec", "jpeg")
    assert restored.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["picture.jpg", "picture.png", "restored.png"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "--codec", "jpg", "--dataset", "sample"], "unknown codec 'jpg': did you mean 'jpeg'"),
        (["run", "--codec", "jpeg", "--dataset", "smple"], "unknown dataset 'smple': did you mean 'sample'"),
        (["run", "--codec", "jpeg", "--dataset", "{empty}"], "has no image"),
        (["run", "--codec", "jpeg", "--dataset", "sample", "--metric", "psrn"], "unknown metric 'psrn'"),
        (["run", "--codec", "jpeg", "--dataset", "sample", "--points", "low"], "point 'low' is not a number"),
        (["run", "--codec", "jpeg", "--dataset", "sample", "--rerun", "x"], "rerun is 'x'; it must be one of missing"),
        (["run", "--codec", "jpeg", "--dataset", "sample", "--results", "{picture}"], "cannot write to"),
        (["run", "--codec", "jpeg", "--dataset", "sample", "--catalog", "/no/such"], "'/no/such' does not exist"),
        (["bd", "--anchor", "jpeg", "--metric", "psnr", "--results", "{empty}"], "no results in"),
        (["report", "--results", "{empty}"], "no results in"),
        (["compress", "{empty}/no.png", "{empty}/out", "--codec", "jpeg"], "no.png"),
        (["compress", "{picture}", "{picture}", "--codec", "jpeg"], "is both input and output"),
        (["compress", "{picture}", "{empty}/a/b", "--codec", "jpeg"], "its folder does not exist"),
        (
            ["compress", "{picture}", "{empty}/out", "--codec", "jpeg", "--point", "5000"],
            "not an integer from 0 to 100",
        ),
        (["decompress", "{picture}", "{empty}/out.png", "--codec", "jpeg"], "no whole JPEG file"),
        (["decompress", "{picture}", "{empty}/out.bmp", "--codec", "jpeg"], "give it the suffix .png"),
        (["decompress", "{empty}/no", "{empty}/out.png", "--codec", "jpeg"], "No such file"),
    ],
)
def test_an_error_is_one_line(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    picture: Path,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.setenv("HVQBENCH_CATALOG", "")
    monkeypatch.chdir(tmp_path)
    empty = tmp_path / "[b]empty"  # markup that nothing may interpret
    empty.mkdir()
    filled = [part.format(empty=empty, picture=picture) for part in arguments]
    line = error_of(capsys, *filled)
    assert message in line
    assert list(empty.iterdir()) == []


def no_space(descriptor: int) -> None:
    """In place of os.fsync: a full disk."""
    raise OSError(28, os.strerror(28))


def test_a_full_disk_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, picture: Path
) -> None:
    monkeypatch.setattr(os, "fsync", no_space)
    run = ["run", "--codec", "jpeg", "--dataset", picture, "--metric", "psnr", "--results", tmp_path / "results"]
    assert "No space left on device" in error_of(capsys, *run)
    assert "No space left on device" in error_of(capsys, "compress", picture, tmp_path / "out", "--codec", "jpeg")
    assert not (tmp_path / "out").exists()


def test_an_output_that_is_no_file_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, picture: Path
) -> None:
    """As root, /dev/null would be replaced by a file."""
    os.mkfifo(tmp_path / "pipe")
    line = error_of(capsys, "compress", picture, tmp_path / "pipe", "--codec", "jpeg")
    assert "it is not a regular file" in line
    assert (tmp_path / "pipe").is_fifo()


def test_what_cannot_be_written_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, picture: Path
) -> None:
    results, photo = tmp_path / "results", tmp_path / "photo.png"
    write_image(photo, np.ascontiguousarray(astronaut()[:128, 160:288]))
    run = ["run", "--codec", "jpeg,webp", "--points", "30,50,70", "--dataset", photo]
    said(capsys, *run, "--metric", "psnr", "--results", results)
    bd = ["bd", "--anchor", "jpeg", "--metric", "psnr", "--results", results, "--figure"]
    assert "cannot draw x.gif: figures end in .png" in error_of(capsys, *bd, tmp_path / "x.gif")
    monkeypatch.setattr(os, "fsync", no_space)
    assert f"{tmp_path / 'x.png'}: No space left" in error_of(capsys, *bd, tmp_path / "x.png")
    assert not list(tmp_path.glob("x.*"))


def test_ctrl_c_is_one_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("hvqbench.catalog.dataset_files", interrupted)
    monkeypatch.setattr("hvqbench.data.dataset_files", interrupted)
    with pytest.raises(SystemExit, match="130"):
        cli.main(["run", "--codec", "jpeg", "--dataset", "sample"])
    assert capsys.readouterr().err.splitlines()[-1].startswith("hvqbench: interrupted; what was finished is kept")


def test_usage_errors_exit_with_2() -> None:
    done = hvqbench("run", "--codec", "jpeg", "--datset", "sample")
    assert done.returncode == 2
    assert "--datset" in done.stderr
    assert done.stdout == ""
