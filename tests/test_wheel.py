"""The wheel, installed where the checkout is not: it carries its content and works from an empty directory."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import numpy as np
import pytest

from hvqbench.image import write_image

ROOT = Path(__file__).parents[1]
CONTENT = ("codecs", "datasets", "reports")


def run(*command: str | Path, cwd: Path) -> str:
    """What a command prints, in an environment that knows nothing of hvqbench."""
    hidden = {name for name in os.environ if name.startswith(("HVQBENCH_", "PYTHON"))}
    environment = {name: value for name, value in os.environ.items() if name not in hidden} | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([*map(str, command)], cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built by the hatchling that is installed here, or else in isolation by pip's."""
    folder = tmp_path_factory.mktemp("dist")
    isolation = ["--no-isolation"] if importlib.util.find_spec("hatchling") else []
    run(sys.executable, "-m", "build", "--wheel", *isolation, "--outdir", folder, ROOT, cwd=folder)
    (built,) = folder.glob("*.whl")
    return built


def test_both_distributions_are_ready_to_publish(wheel: Path, tmp_path: Path) -> None:
    pytest.importorskip("twine", reason="no twine: pip install -e '.[dev]'")
    isolation = ["--no-isolation"] if importlib.util.find_spec("hatchling") else []
    run(sys.executable, "-m", "build", "--sdist", *isolation, "--outdir", tmp_path, ROOT, cwd=tmp_path)
    (source,) = tmp_path.glob("*.tar.gz")
    assert run(sys.executable, "-m", "twine", "check", "--strict", wheel, source, cwd=tmp_path).count("PASSED") == 2
    assert max(path.stat().st_size for path in (wheel, source)) < 100e6  # what PyPI takes
    with tarfile.open(source) as content:
        names = {name.partition("/")[2] for name in content.getnames()}
    assert {"CITATION.cff", "Makefile", "README.md", "docs/index.md", "codecs/hypervq/codec.toml"} <= names


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter whose environment holds the wheel, the third-party packages of this one, and no checkout.

    The packages come by a ``.pth`` file: what an environment's own ``.pth`` files add, an editable install above all,
    is not followed from there.
    """
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False, symlinks=os.name != "nt")
    own = Path(sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)}))
    run(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", own, wheel, cwd=folder)
    libraries = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (own / "third-party.pth").write_text("\n".join(sorted(libraries)))
    return folder / ("Scripts" if os.name == "nt" else "bin") / "python"


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    folder = tmp_path / "empty"
    folder.mkdir()
    return folder


def test_the_wheel_carries_all_content(wheel: Path) -> None:
    carried = set(zipfile.ZipFile(wheel).namelist())
    patterns = ("codecs/**/*.toml", "codecs/**/*.safetensors", "codecs/**/*.md", "datasets/*.toml", "reports/*.md")
    expected = {f"hvqbench/content/{p.relative_to(ROOT).as_posix()}" for each in patterns for p in ROOT.glob(each)}
    assert {"hvqbench/content/codecs/jpeg/codec.toml", "hvqbench/content/datasets/kodak.toml"} <= expected
    assert expected <= carried
    assert {"hvqbench/py.typed", "hvqbench/report/hvqbench.mplstyle"} <= carried
    assert any(name.endswith("licenses/LICENSE") for name in carried)
    # Nothing but the package, and of training nothing but what a codec needs.
    assert {name.partition("/")[0].partition("-")[0] for name in carried} == {"hvqbench"}
    assert not [name for name in carried if name.endswith((".pt", ".jsonl", ".pyc", ".partial"))]


def test_weights_that_codecs_name_are_in_the_wheel(wheel: Path) -> None:
    from hvqbench.catalog import codec_files, load_codec

    carried = set(zipfile.ZipFile(wheel).namelist())
    built_in = [load_codec(name) for name, path in codec_files().items() if (ROOT / "codecs") in path.parents]
    ready = [codec for codec in built_in if codec.unavailable() is None]
    weights = {path for codec in ready for path in codec.files()}
    assert {path.suffix for path in weights} == {".safetensors"}
    assert {f"hvqbench/content/{path.relative_to(ROOT).as_posix()}" for path in weights} <= carried


def test_it_is_the_wheel_that_is_imported(python: Path, empty: Path) -> None:
    script = (
        "import json, sys, hvqbench; from hvqbench.catalog import content_folders; "
        f"print(json.dumps([hvqbench.__file__, *(str(f) for k in {CONTENT} for f in content_folders(k)), *sys.path]))"
    )
    package, *others = json.loads(run(python, "-P", "-c", script, cwd=empty))
    folders, path = others[: len(CONTENT)], others[len(CONTENT) :]
    site_packages = Path(package).parents[1]
    assert python.parents[1] in site_packages.parents
    assert folders == [str(site_packages / "hvqbench" / "content" / kind) for kind in CONTENT]
    assert str(ROOT) not in path


def test_listings_show_the_built_in_content(python: Path, empty: Path) -> None:
    codecs = {
        entry["id"]: entry for entry in json.loads(run(python, "-m", "hvqbench", "ls", "codecs", "--json", cwd=empty))
    }
    assert codecs.keys() == {path.parent.name for path in ROOT.glob("codecs/*/codec.toml")}
    assert codecs["jpeg"]["ready"]
    listed = json.loads(run(python, "-m", "hvqbench", "ls", "datasets", "--json", cwd=empty))
    assert {entry["id"] for entry in listed} == {path.stem for path in ROOT.glob("datasets/*.toml")}
    assert next(entry for entry in listed if entry["id"] == "sample")["ready"]


def test_jpeg_runs(python: Path, empty: Path, tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for number in range(2):
        pixels = np.random.default_rng(number).integers(0, 256, (8, 12, 3), dtype=np.uint8)
        write_image(images / f"{number}.png", pixels)
    command = ["-m", "hvqbench", "run", "--codec", "jpeg", "--dataset", images, "--metric", "psnr", "--points", "50"]
    table = run(python, *command, cwd=empty)
    assert table.splitlines()[-1].split()[:4] == ["jpeg", "quality", "50", "2"]
    assert [path.name for path in empty.iterdir()] == ["results"]
