"""What a codec declares about its bits, and the marks that tables give it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image as PillowImage

import hvqbench
from hvqbench.catalog import codec_files, load_spec, read_spec
from hvqbench.errors import HvqbenchError
from hvqbench.protocol import FLAGS, Needs, Protocol, published_flags
from hvqbench.report import make_report
from hvqbench.report.summary import summarize
from hvqbench.report.tables import points_table, protocol_notes

TOML = 'adapter = "pillow"\nsummary = "mine"\npoint_name = "q"\npoints = [1, 2.5]\n'


def write_toml(folder: Path, more: str) -> Path:
    path = folder / "mine" / "codec.toml"
    path.parent.mkdir()
    path.write_text(TOML + more)
    return path


def test_a_codec_that_declares_nothing_is_a_real_file_of_pixels_in_their_own_size(tmp_path: Path) -> None:
    spec = read_spec(write_toml(tmp_path, ""))
    assert spec.protocol == Protocol(rate="file", resizes=False, stochastic=False)
    assert spec.needs == Needs(gpu=False)


def test_both_tables_are_read(tmp_path: Path) -> None:
    tables = '[protocol]\nrate = "payload"\nstochastic = true\n[needs]\ngpu = true\nlicence = "MIT"\n'
    spec = read_spec(write_toml(tmp_path, tables))
    assert spec.protocol == Protocol(rate="payload", stochastic=True)
    assert spec.needs == Needs(gpu=True, licence="MIT")


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ("[protocol]\nstochastc = true\n", r"protocol: unknown key 'stochastc': did you mean 'stochastic'\?"),
        ("[needs]\nlicense = 'MIT'\n", r"needs: unknown key 'license': did you mean 'licence'\?"),
        ("[protocl]\n", "unknown key 'protocl': did you mean 'protocol'"),
        ("[protocol]\nrate = 'real'\n", "rate = 'real': set it to one of file, payload, estimated, nominal, unknown"),
        ("[protocol]\nresizes = 1\n", "resizes = 1: set it to true or false"),
        ("[needs]\ncommit = 12\n", "commit = 12: set it to text in quotes"),
        ("[needs]\ninstall = 'a\\nb'\n".replace("'", '"'), "install has more than one line"),
        ("needs = 'a GPU'\n", r"needs = 'a GPU': write it as a table"),
    ],
)
def test_a_wrong_table_says_what_is_wrong(tmp_path: Path, tables: str, message: str) -> None:
    path = write_toml(tmp_path, tables)
    with pytest.raises(HvqbenchError, match=message) as caught:
        read_spec(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", codec_files())
def test_every_shipped_codec_declares_what_can_be_read(name: str) -> None:
    load_spec(name)


def test_flags_say_how_a_codec_is_not_like_for_like() -> None:
    assert Protocol().flags == ()
    assert Protocol(chroma="4:2:0", padding="to 8", note="any").flags == ()
    assert Protocol("nominal", resizes=True, stochastic=True).flags == ("nominal-rate", "resized", "stochastic")
    assert [Protocol(rate).flags for rate in ("payload", "estimated")] == [("payload-only",), ("estimated-rate",)]


def test_published_points_get_the_flag_of_their_rate() -> None:
    protocols = ["file", "file: padded pixels", "payload: no header", "estimated", "unknown"]
    assert [published_flags(p) for p in protocols] == ["", "", "payload-only", "estimated-rate", "unknown-rate"]


ADAPTER = """
from hvqbench.codec import Bitstream, Codec, Stream
import numpy as np

class Own(Codec):
    def encode(self, image, point):
        data = bytes(image.shape[:2])
        return Bitstream(data, {"payload": Stream(len(data))})

    def decode(self, data):
        return np.random.default_rng().integers(0, 256, (*data, 3), np.uint8)
"""


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """A codec that guesses and says so, and JPEG, over one small image."""
    root = tmp_path_factory.mktemp("protocol")
    folder = root / "guess"
    folder.mkdir()
    declared = '[protocol]\nrate = "payload"\nstochastic = true\n'
    (folder / "codec.toml").write_text('summary = "guess"\npoint_name = "q"\npoints = [1]\n' + declared)
    (folder / "adapter.py").write_text(ADAPTER)
    (root / "images").mkdir()
    pixels = np.random.default_rng(1).integers(0, 256, (16, 24, 3), np.uint8)
    PillowImage.fromarray(pixels).save(root / "images" / "one.png")
    codecs = [str(folder), "jpeg"]
    hvqbench.run(codecs, root / "images", metrics=["psnr"], points=[30], results=root / "results", progress=False)
    return hvqbench.read_results(root / "results")


def test_a_run_marks_what_is_not_like_for_like(results: pd.DataFrame) -> None:
    assert list(results["status"]) == ["ok", "ok"]  # two decodes that differ are no failure where that is declared
    assert dict(zip(results["codec"], results["protocol"], strict=True)) == {
        "guess": "payload-only stochastic",
        "jpeg": "",
    }
    said = summarize(results).split("not like for like:\n")[1].splitlines()
    assert said == [f"  {flag} (guess): {FLAGS[flag]}" for flag in ("payload-only", "stochastic")]
    assert "not like for like" not in summarize(results[results["codec"] == "jpeg"])


def test_a_report_marks_what_is_not_like_for_like(results: pd.DataFrame, tmp_path: Path) -> None:
    report = make_report(results, tmp_path / "both").markdown.read_text()
    row = next(line for line in report.splitlines() if line.startswith("| ") and "guess" in line)
    assert "payload-only stochastic" in row
    assert f"- stochastic (guess): {FLAGS['stochastic']}\n" in report
    plain = results[results["codec"] == "jpeg"]
    assert "like for like" not in make_report(plain, tmp_path / "plain").markdown.read_text()
    assert "protocol" not in points_table(plain, ["psnr"])


def test_results_of_an_older_version_have_no_flags(results: pd.DataFrame) -> None:
    assert "like for like" not in summarize(results.drop(columns="protocol"))
    assert "protocol" not in points_table(results.drop(columns="protocol"), ["psnr"])


def test_published_curves_are_marked_too(results: pd.DataFrame) -> None:
    codecs = ["rdvq-official (published)", "vtm (published)"]
    published = pd.DataFrame({"codec": codecs, "protocol": ["payload: x", "file"]})
    notes = protocol_notes(points_table(results, ["psnr"]), published)
    assert f"payload-only (guess, rdvq-official (published)): {FLAGS['payload-only']}" in notes
    assert len(notes) == 2
