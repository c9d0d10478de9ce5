"""Bad input through the command line: one clear line, or a decided conversion, and nothing else lost."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage

from hvqbench import cli, read_results, run
from hvqbench.image import read_image, write_image

PIXELS = np.random.default_rng(0).integers(0, 256, (24, 40, 3), dtype=np.uint8)
JPEG = ("--codec", "jpeg", "--metric", "psnr", "--points", "50")


def call(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, list[str]]:
    """Exit code, stdout, and the lines of stderr of a command."""
    with pytest.raises(SystemExit) as caught:
        cli.main([str(a) for a in arguments])
    captured = capsys.readouterr()
    return int(caught.value.code or 0), captured.out, captured.err.splitlines()


def content(folder: Path) -> dict[str, str]:
    """Everything below *folder*: files with their hash, folders with none."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        for path in folder.rglob("*")
        if path.name != ".images.json"  # only a memory of what images are
    }


@pytest.fixture(autouse=True)
def at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a picture, and no catalog of the user's."""
    monkeypatch.setenv("HVQBENCH_CATALOG", "")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "good").mkdir()
    write_image(tmp_path / "good" / "picture.png", PIXELS)
    return tmp_path


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a picture, its results, and an empty folder. Whoever fails must leave it as it is."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "good").mkdir()
    (folder / "empty").mkdir()
    write_image(folder / "good" / "picture.png", PIXELS)
    rows = run("jpeg", folder / "good", metrics=["psnr"], points=[50], results=folder / "results", progress=False)
    assert list(rows["status"]) == ["ok"]
    return folder


def save(path: Path, image: PillowImage.Image) -> None:
    path.parent.mkdir(exist_ok=True)
    image.save(path)


def corrupt(path: Path) -> None:
    """A PNG with one byte of its pixels altered."""
    write_image(path, PIXELS)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


WRITERS: dict[str, Callable[[Path], None]] = {
    "cmyk.jpg": lambda path: save(path, PillowImage.fromarray(PIXELS).convert("CMYK")),
    "16-bit-grey.png": lambda path: save(path, PillowImage.fromarray(PIXELS[..., 0].astype(np.uint16) * 257)),
    "grey.png": lambda path: save(path, PillowImage.fromarray(PIXELS[..., 0])),
    "rgba.png": lambda path: save(path, PillowImage.fromarray(np.dstack([PIXELS, PIXELS[..., 0]]))),
    "1x1.png": lambda path: save(path, PillowImage.fromarray(PIXELS[:1, :1])),
    "3x5000.png": lambda path: save(path, PillowImage.fromarray(np.resize(PIXELS, (5000, 3, 3)))),
}


def test_odd_images_are_converted_and_measured(capsys: pytest.CaptureFixture[str], at_home: Path) -> None:
    for name, write in WRITERS.items():
        write(at_home / "odd" / name)
    code, out, err = call(capsys, "run", "--dataset", "odd", *JPEG)
    assert (code, err) == (0, []), out
    rows = read_results("results").set_index("image")
    assert set(rows.index) == {name.rpartition(".")[0] for name in WRITERS}
    assert (rows["status"] == "ok").all()
    assert rows["psnr"].between(5, 60).all()
    sizes = {name: (int(row["width"]), int(row["height"])) for name, row in rows.iterrows()}
    assert (sizes["1x1"], sizes["3x5000"]) == ((1, 1), (3, 5000))
    assert {size for name, size in sizes.items() if name not in ("1x1", "3x5000")} == {(40, 24)}


@pytest.mark.parametrize("name", WRITERS)
def test_odd_images_survive_compress_and_decompress(
    capsys: pytest.CaptureFixture[str], at_home: Path, name: str
) -> None:
    path = at_home / "odd" / name
    WRITERS[name](path)
    code, _, err = call(capsys, "compress", path, "out.jpg", "--codec", "jpeg", "--point", "95")
    assert (code, err) == (0, [])
    code, _, err = call(capsys, "decompress", "out.jpg", "out.png", "--codec", "jpeg")
    assert (code, err) == (0, [])
    assert read_image(Path("out.png")).shape == read_image(path).shape


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (corrupt, "is corrupt or truncated"),
        (lambda path: path.write_bytes(b""), "is not an image of a kind that hvqbench reads"),
        (lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n"), "bad.png"),
        (lambda path: path.write_text("<html>404 Not Found</html>"), "is not an image of a kind that hvqbench reads"),
    ],
    ids=["altered", "empty", "only-magic", "foreign"],
)
def test_a_bad_image_is_one_line_and_costs_no_other(
    capsys: pytest.CaptureFixture[str], at_home: Path, damage: Callable[[Path], None], reason: str
) -> None:
    damage(at_home / "good" / "bad.png")
    code, _, err = call(capsys, "compress", "good/bad.png", "out.jpg", "--codec", "jpeg")
    assert code == 2
    assert len(err) == 1
    assert reason in err[0]
    assert not Path("out.jpg").exists()

    code, out, err = call(capsys, "run", "--dataset", "good", *JPEG)
    assert (code, err) == (1, [])
    assert [line for line in out.splitlines() if reason in line] == out.splitlines()[-1:]
    rows = read_results("results").set_index("image")
    assert rows["status"].to_dict() == {"bad": "failed", "picture": "ok"}
    assert reason in rows.loc["bad", "reason"]

    # A good file in its place, and the same command, is all it takes.
    write_image(at_home / "good" / "bad.png", PIXELS[:8])
    code, _, err = call(capsys, "run", "--dataset", "good", *JPEG)
    assert (code, err) == (0, [])
    assert (read_results("results")["status"] == "ok").all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("run --codec jpge --dataset good", "unknown codec 'jpge': did you mean 'jpeg'"),
        ("run --codec jpeg,jpge --dataset good", "unknown codec 'jpge': did you mean 'jpeg'"),
        ("run --codec jpeg --dataset kodka", "unknown dataset 'kodka': did you mean 'kodak'"),
        ("run --codec jpeg --dataset no/such/folder", "there is no folder or image no/such/folder"),
        ("run --codec jpeg --dataset empty", "empty has no image: name a folder that directly holds files"),
        (
            "run --codec jpeg --dataset good --metric lpisp-alex",
            "unknown metric 'lpisp-alex': did you mean 'lpips-alex'",
        ),
        ("run --codec jpeg --dataset good --metric ,", "--metric names nothing"),
        ("run --codec , --dataset good", "--codec names nothing"),
        ("run --codec jpeg --dataset good --points ,", "--points names nothing"),
        ("run --codec jpeg --dataset good --points nan --metric psnr", "every one must be a finite number"),
        ("run --codec jpeg@9000,webp --dataset good", "jpeg: quality 9000 is not in its range, 0 to 100: correct it"),
        ("run --codec hypervq --points=-1 --dataset good", "L -1 is not in its range, 0 or more: correct it, or"),
        ("run --codec jpeg --dataset good --device no-such", "cannot use device 'no-such'"),
        ("run --codec ./no/codec.toml --dataset good", "cannot read no/codec.toml"),
        ("bd --anchor jpge --metric psnr", "the results have no codec 'jpge': did you mean 'jpeg'? they have jpeg"),
        ("bd --anchor jpeg --metric psnr", "no codec to compare with 'jpeg'"),
        ("bd --anchor jpeg --metric lpips", "no metric 'lpips-alex': `hvqbench score --metric lpips-alex` adds it"),
        ("bd --anchor jpeg --metric psnr-y", "only published curves have that one"),
        ("bd --anchor jpeg --metric lpisp", "unknown metric 'lpisp'"),
        ("bd --anchor jpeg", "what quality is measured by: name one of those that 'results' has: psnr"),
        ("bd --anchor jpeg --metric psnr --codec wbep", "the results have no codec 'wbep'"),
        ("bd --anchor jpeg --metric psnr --dataset kodka", "the results have no data set 'kodka'"),
        ("report --anchor jpge", "the results have no codec 'jpge'"),
        ("compress good/picture.png out --codec jpge", "unknown codec 'jpge'"),
        ("compress good/picture.png out --codec jpeg --point nan", "point nan is not a finite number"),
        ("decompress good/picture.png out.png --codec webp", "no whole WEBP file"),
        ("train tokenizer --config no.toml --data good", "cannot read no.toml"),
        ("train tokenizer --config no.toml --data good --set rate", "--set rate: "),
    ],
)
def test_what_cannot_be_done_is_one_line_and_leaves_results_alone(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, finished: Path, arguments: str, message: str
) -> None:
    monkeypatch.chdir(finished)
    before = content(finished)
    code, out, err = call(capsys, *arguments.split())
    assert code != 0
    assert len(err) == 1, (out, err)
    assert err[0].startswith("hvqbench: ")
    assert message in err[0]
    assert content(finished) == before
