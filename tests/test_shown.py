"""What others wrote into names and reasons reaches no terminal, spreadsheet or page as a command."""

from __future__ import annotations

import csv
import io
import re
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hvqbench import cli, read_results
from hvqbench.errors import say
from hvqbench.image import write_image
from hvqbench.report import make_report
from hvqbench.shown import VisibleStream, csv_of, no_foreign_html, visible

CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]")
EVIL = "\x1b[2J\x1b]0;pwned\x07<script>alert(1)</script></script> =cmd|'x'!A0 \u202egnp.exe \x9b31m"
ADAPTER = f"""
import numpy as np
from hvqbench.codec import Bitstream, Codec, Stream

class Evil(Codec):
    def encode(self, image, point):
        data = np.array(image.shape[:2], "<u2").tobytes() + image.tobytes()
        return Bitstream(data, {{"payload": Stream(len(data))}})

    def decode(self, data):
        if data[4] > 200:
            raise ValueError({EVIL!r})
        height, width = np.frombuffer(data[:4], "<u2")
        return np.frombuffer(data[4:], np.uint8).reshape(height, width, 3).copy()
"""
NAME = "=cmd\x1b[31m<img src=x>"


@pytest.fixture
def codec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A codec whose name and reasons are attacks, as its picture's name is."""
    folder = tmp_path / NAME
    folder.mkdir()
    (folder / "adapter.py").write_text(ADAPTER)
    (folder / "codec.toml").write_text('summary = "a\\u001b[2Jb"\npoints = [1, 2]\npoint_name = "q"\n')
    (tmp_path / "images").mkdir()
    for name, value in {"=a\x1b[5mb": 90, "c": 250}.items():
        write_image(tmp_path / "images" / f"{name}.png", np.full((16, 20, 3), value, np.uint8))
    monkeypatch.chdir(tmp_path)
    return f"./{NAME}"


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit):
        cli.main([*arguments])
    told = capsys.readouterr()
    assert "Traceback" not in told.err
    return told.out + told.err


def test_a_terminal_gets_no_command(capsys: pytest.CaptureFixture[str], codec: str) -> None:
    run = call(capsys, "run", "--codec", codec, "--dataset", "images", "--metric", "psnr")
    why = call(capsys, "why", f"{NAME}/1/c")
    wrong = call(capsys, "run", "--codec", "je\x1b[2Jpg", "--dataset", "images")
    ls = call(capsys, "ls", "codecs", "--catalog", catalog_with(codec))
    for said in (run, why, wrong, ls):
        assert not CONTROL.search(said)
    assert r"\x1b]0;pwned\x07<script>" in run
    assert r"\x1b]0;pwned\x07<script>" in why
    assert "unknown codec 'je" in wrong
    rows = read_results("results")
    assert rows.loc[rows["status"] == "failed", "reason"].str.contains("\x1b", regex=False).all()  # kept as it is


def catalog_with(codec: str) -> str:
    Path("catalog/codecs").mkdir(parents=True)
    Path(codec).rename(f"catalog/codecs/{NAME}")
    return "catalog"


def test_a_report_holds_no_foreign_command(capsys: pytest.CaptureFixture[str], codec: str) -> None:
    call(capsys, "run", "--codec", codec, "--dataset", "images", "--metric", "psnr")
    call(capsys, "run", "--codec", "jpeg", "--points", "20,60", "--dataset", "images", "--metric", "psnr")
    make_report(read_results("results"), "report")
    written = {
        path.name: path.read_text() for path in Path("report").iterdir() if path.suffix in (".md", ".csv", ".tex")
    }
    assert any("script" in text for text in written.values())
    for name, text in written.items():
        assert not CONTROL.search(text), name
        if name.endswith(".csv"):
            cells = [cell for row in csv.reader(io.StringIO(text)) for cell in row]
            assert not [cell for cell in cells if cell[:1] in "=@" and cell], name
            assert "'=cmd" in text or "=cmd" not in text
        if name.endswith(".md"):
            assert not re.search("<(script|img)", text)
            assert "&lt;" in text


def test_what_is_written_out_is_known_again() -> None:
    assert visible("a\tb\nc é 画像 👍🏽 −1") == "a\tb\nc é 画像 👍🏽 −1"
    assert visible("\r\x85\u2028\u202e\x00") == r"\r\x85\u2028\u202e\x00"


def test_own_tags_stay_tags() -> None:
    own = "**1** <u>2</u><sup>a</sup> 3<br>4 <details><summary>5</summary></details>"
    assert no_foreign_html(own) == own
    assert no_foreign_html("<u onclick=x> a<b </script>") == "&lt;u onclick=x> a&lt;b &lt;/script>"


def test_cells_that_a_spreadsheet_would_compute_are_text() -> None:
    texts = ["=1+1", "+49", "-1.5e-3", "-cmd", "@SUM(A1)", "-", "plain", "a=b"]
    frame = pd.DataFrame({"number": np.arange(8) - 4.5, "text": texts, "true": [True] * 8})
    read = pd.read_csv(io.BytesIO(csv_of(frame)))
    assert list(read["number"]) == list(frame["number"])
    assert list(read["text"]) == ["'=1+1", "+49", "-1.5e-3", "'-cmd", "'@SUM(A1)", "-", "plain", "a=b"]
    assert read["true"].all()


def test_colours_pass_and_nothing_else() -> None:
    out = io.StringIO()
    print("\x1b[38;5;166mred\x1b[0m \x1b[8mhidden\x1b]0;title\x07", file=VisibleStream(out))
    assert out.getvalue() == "\x1b[38;5;166mred\x1b[0m \\x1b[8mhidden\\x1b]0;title\\x07\n"


def test_a_line_on_stderr_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    say("a\x1b[1A\rb")
    assert capsys.readouterr().err == "hvqbench: a\\x1b[1A\\rb\n"
    assert sys.stdout.write("") == 0


def test_junit_stays_xml_whatever_a_reason_holds() -> None:
    from hvqbench.analysis.gate import Finding, GateReport
    from hvqbench.analysis.gate_report import to_junit, to_markdown

    report = GateReport("b", 0.5, (Finding("d", "c\x1b", "w<img>", "worse", note=EVIL),))
    junit, markdown = to_junit(report), to_markdown(report)
    ET.fromstring(junit)
    assert not CONTROL.search(junit + markdown)
    assert "<img" not in markdown
