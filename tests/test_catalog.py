"""Where codecs are found, and what is said when they are not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hvqbench.catalog import codec_files, load_codec, load_spec
from hvqbench.errors import HvqbenchError
from hvqbench.listing import list_codecs

ADAPTER = """
from hvqbench.codec import Bitstream, Codec, Stream

class Own(Codec):
    def encode(self, image, point):
        return Bitstream(b"", {})

    def decode(self, data):
        raise NotImplementedError
"""
TOML = 'summary = "mine"\npoint_name = "q"\npoints = [1, 2.5]\n'


def write_codec(folder: Path, toml: str = TOML, adapter: str | None = ADAPTER) -> Path:
    folder.mkdir(parents=True)
    (folder / "codec.toml").write_text(toml)
    if adapter is not None:
        (folder / "adapter.py").write_text(adapter)
    return folder


@pytest.fixture
def catalog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "catalog"
    folder.mkdir()
    monkeypatch.setenv("HVQBENCH_CATALOG", str(folder))
    return folder


def test_the_built_in_codecs_are_there() -> None:
    assert {"jpeg", "webp", "vvenc"} <= codec_files().keys()
    assert load_spec("jpeg").points[0] == 5


def test_a_folder_of_ones_own_adds_a_codec(catalog: Path) -> None:
    write_codec(catalog / "codecs" / "mine")
    codec = load_codec("mine")
    assert (codec.id, codec.points, codec.spec.point_name) == ("mine", (1.0, 2.5), "q")
    assert "jpeg" in codec_files()


def test_a_codec_is_found_by_its_path(tmp_path: Path) -> None:
    folder = write_codec(tmp_path / "elsewhere")
    assert load_codec(str(folder)).id == load_codec(str(folder / "codec.toml")).id == "elsewhere"


def test_two_codecs_of_one_name_are_an_error(catalog: Path) -> None:
    write_codec(catalog / "codecs" / "jpeg")
    with pytest.raises(HvqbenchError, match=r"two codecs are named 'jpeg': .*rename one of them"):
        codec_files()


@pytest.mark.parametrize(("name", "hint"), [("jpg", "did you mean 'jpeg'"), ("zzz", "`hvqbench ls codecs` lists")])
def test_an_unknown_codec_gets_a_hint(name: str, hint: str) -> None:
    with pytest.raises(HvqbenchError, match=f"unknown codec {name!r}: .*{hint}"):
        load_codec(name)


def test_a_missing_catalog_folder_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HVQBENCH_CATALOG", str(tmp_path / "nothing"))
    with pytest.raises(HvqbenchError, match=r"nothing' does not exist: correct --catalog or HVQBENCH_CATALOG"):
        codec_files()


@pytest.mark.parametrize(
    ("toml", "adapter", "message"),
    [
        ("summary =", ADAPTER, "is not valid TOML"),
        (TOML + "speed = 3\n", ADAPTER, "unknown key 'speed'"),
        (TOML.replace("summary", "tags"), ADAPTER, "the key 'summary' is missing"),
        (TOML.replace("[1, 2.5]", '["low"]'), ADAPTER, "points = 'low': set it to a number"),
        (TOML, None, "no 'adapter' is named and no adapter.py lies beside it"),
        (TOML + 'adapter = "no_such_module:Codec"\n', None, "cannot load 'no_such_module:Codec'"),
        (TOML + 'adapter = "json:JSONDecoder"\n', None, "json:JSONDecoder is not a subclass of hvqbench.codec.Codec"),
        (TOML, "x = 1", "defines 0 subclasses of hvqbench.codec.Codec; it must define exactly one"),
    ],
)
def test_a_wrong_codec_says_what_is_wrong(catalog: Path, toml: str, adapter: str | None, message: str) -> None:
    write_codec(catalog / "codecs" / "mine", toml, adapter)
    with pytest.raises(HvqbenchError, match=message) as caught:
        load_codec("mine")
    assert "\n" not in str(caught.value)


def test_a_codecs_fingerprint_follows_its_content_and_not_its_name(tmp_path: Path) -> None:
    first = load_codec(str(write_codec(tmp_path / "first"))).fingerprint
    assert load_codec(str(write_codec(tmp_path / "second"))).fingerprint == first
    edited = write_codec(tmp_path / "edited", adapter=ADAPTER.replace('b""', 'b"" + b""'))
    assert load_codec(str(edited)).fingerprint != first
    optioned = write_codec(tmp_path / "optioned", toml=TOML + "[options]\nspeed = 3\n")
    assert load_codec(str(optioned)).fingerprint != first
    # Summary and ladder change no number of a row.
    relabelled = write_codec(tmp_path / "relabelled", toml=TOML.replace("mine", "yours").replace("2.5", "7"))
    assert load_codec(str(relabelled)).fingerprint == first


def install(site: Path, group: str, entry: str, module: str) -> None:
    """What an installed package looks like, on a path of its own."""
    info = site / "theirs-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{group}]\n{entry}\n")
    (site / "theirs.py").write_text(module)


def list_with(site: Path) -> subprocess.CompletedProcess[str]:
    root = Path(__file__).parents[1]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(site), str(root)])}
    command = [sys.executable, "-m", "hvqbench", "ls", "codecs"]
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=site, check=False)


def test_listing_runs_no_program_and_says_once_that_it_imports_adapters(
    catalog: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HVQBENCH_CACHE", str(tmp_path / "cache"))
    ran = tmp_path / "ran"
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\ntouch '{ran}'\n")
    program.chmod(0o755)
    external = 'adapter = "command"\nsummary = "s"\npoint_name = "q"\npoints = [1]\n[options]\ninput = "png"\n'
    external += "".join(f'{name} = "{program}"\n' for name in ("encode", "decode", "version_command"))
    write_codec(catalog / "codecs" / "external", external, None)
    write_codec(catalog / "codecs" / "mine")
    write_codec(catalog / "codecs" / "broken", adapter="import no_such_module")
    missing = (
        ADAPTER + '\n    def files(self):\n        from pathlib import Path\n        return [Path("no/weights")]\n'
    )
    write_codec(catalog / "codecs" / "without-weights", adapter=missing)
    for times in (1, 0):
        listed = {entry["id"]: entry for entry in list_codecs()}
        assert capsys.readouterr().err.count("listing imports its 3 adapters, code that runs with your rights") == times
    assert listed["external"]["ready"]
    assert listed["mine"]["ready"]
    assert "No module named 'no_such_module'" in listed["broken"]["reason"]
    assert "no/weights" in listed["without-weights"]["reason"]
    assert not ran.exists()
    assert load_codec("external").unavailable() is not None  # whoever wants to run it does run version_command
    assert ran.exists()


def test_an_installed_package_adds_a_codec(tmp_path: Path) -> None:
    folder = write_codec(tmp_path / "content" / "theirs")
    toml = folder / "codec.toml"
    install(tmp_path / "site", "hvqbench.codecs", "theirs = theirs:path", f"def path():\n    return {str(toml)!r}\n")
    done = list_with(tmp_path / "site")
    assert done.returncode == 0, done.stderr
    assert any(line.split() == ["theirs", "ready", "mine"] for line in done.stdout.splitlines())


def test_an_installed_package_that_fails_is_named(tmp_path: Path) -> None:
    install(tmp_path / "site", "hvqbench.codecs", "theirs = theirs:path", "1 / 0\n")
    done = list_with(tmp_path / "site")
    assert done.returncode == 2
    assert done.stderr.startswith("hvqbench: theirs offers codec 'theirs' but fails: ZeroDivisionError")
    assert done.stderr.count("\n") == 1
