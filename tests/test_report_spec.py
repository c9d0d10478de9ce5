"""A spec says what a report is made of; what is wrong with it is one line that names the file and the key."""

from __future__ import annotations

from pathlib import Path

import pytest

from hvqbench.errors import HvqbenchError
from hvqbench.report.spec import FigureSpec, TableSpec, find_spec, inherit, read_spec, report_files

TOML = """
codecs = ["hypervq", "classic"]
anchors = ["vvenc"]
formats = ["svg"]

[[figure]]
kind = "rd"
metrics = ["psnr"]
bpp = [0, 1]
width = "single"

[[table]]
kind = "bd-rate"
anchors = ["jpeg"]
"""


def test_items_take_from_the_report_what_they_do_not_choose(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(TOML)
    spec = read_spec(path)
    (figure,), (table,) = spec.figure, spec.table
    assert figure == FigureSpec(kind="rd", metrics=("psnr",), bpp=(0.0, 1.0), width="single")
    assert table == TableSpec(kind="bd-rate", anchors=("jpeg",))
    assert inherit(figure, spec).anchors == ("vvenc",)
    assert inherit(table, spec).anchors == ("jpeg",)
    assert inherit(table, spec).codecs == ("hypervq", "classic")
    assert spec.formats == ("svg",)


def test_shipped_specs_are_found_by_name_and_ablations_are_none() -> None:
    assert {"paper", "demo"} <= report_files().keys()
    assert "ablations" not in report_files()
    kinds = {item.kind for item in find_spec("paper").figure} | {item.kind for item in find_spec("paper").table}
    assert {"rd", "bits", "per-image", "speed", "bd-rate", "saving", "timing", "ablation"} <= kinds


def test_a_users_own_catalog_is_searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports" / "ours.toml").write_text('title = "Ours"\n')
    monkeypatch.setenv("HVQBENCH_CATALOG", str(tmp_path))
    assert find_spec("ours").title == "Ours"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("codec = ['jpeg']", r"unknown key 'codec': did you mean 'codecs'"),
        ("codecs = 'jpeg'", r"codecs = 'jpeg': make it a list, in square brackets"),
        ("formats = ['gif']", r"formats = 'gif': .*set it to one of pdf, png, svg, pgf"),
        ("[[figure]]\nkind = 'rdd'", r"figure: kind = 'rdd': did you mean 'rd'"),
        ("[[figure]]\nwidth = 'single'", r"figure: the key .kind. is missing; set it to one of rd"),
        ("[[figure]]\nkind = 'rd'\nbpp = [1]", r"bpp takes two rates"),
        ("[[figure]]\nkind = 'rd'\nbpp = [1.0, 0.1]", r"bpp takes two rates, the least and the greatest"),
        ("[[figure]]\nkind = 'rd'\nbpp = [nan, 1.0]", r"bpp takes two rates"),
        ("[[figure]]\nkind = 'rd'\nname = '../../mine'", r"name = '../../mine' is part of file names"),
        ("[[table]]\nkind = 'sets'\ntitle = 3", r"title = 3: set it to text in quotes"),
        ("[[figure]]\nkind = 'rd'\n[[figure]]\nkind = 'rd'", r"two \[\[figure\]\] are named 'rd'"),
        ("figure = ['rd']", r"figure = .rd.: write it as a table"),
    ],
)
def test_a_wrong_spec_is_one_line(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(text)
    with pytest.raises(HvqbenchError, match=f"bad.toml.*{said}") as error:
        read_spec(path)
    assert "\n" not in str(error.value)


def test_an_unknown_report_names_the_near_ones() -> None:
    with pytest.raises(HvqbenchError, match=r"unknown report 'papr': did you mean 'paper'"):
        find_spec("papr")
