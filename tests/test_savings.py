"""Bytes saved against fixed length: the same numbers in a run's summary, in reports and on pages."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from hvqbench.analysis.savings import saving_table
from hvqbench.report.html.tables import of_dataset
from hvqbench.report.scope import ReportData, Scope
from hvqbench.report.sections import saving
from hvqbench.report.spec import Selection, TableSpec
from hvqbench.report.summary import summarize


def test_saving_is_of_totals_and_of_images_and_knows_whether_pixels_agree() -> None:
    rows = [
        _vq("fixed-vq", 0, "a", 100, "pa"),
        _vq("fixed-vq", 0, "b", 300, "pb"),
        _vq("fixed-vq", 1, "a", 100, "qa"),
        _vq("hypervq", 0, "a", 80, "pa"),
        _vq("hypervq", 0, "b", 270, "pb"),
        _vq("hypervq", 1, "a", 50, "other"),
        _vq("hypervq", 2, "a", 10, "alone"),
        {**_vq("hypervq", 0, "c", 1, "failed"), "status": "failed"},
        # JPEG has a point of the same number, but no indices: nothing to compare.
        {**_vq("jpeg", 0, "a", 5, "jpeg"), "bytes.indices": np.nan},
    ]
    table = saving_table(pd.DataFrame(rows))
    assert table[["codec", "point", "images"]].to_numpy().tolist() == [["hypervq", 0, 2], ["hypervq", 1, 1]]
    first = table.iloc[0]
    assert (first["bytes"], first["anchor_bytes"]) == (350, 400)
    assert first["saved_percent"] == pytest.approx(12.5)
    assert first["mean_saved_percent"] == pytest.approx((20 + 10) / 2)
    assert table["same_pixels"].tolist() == [True, False]


def test_images_of_one_name_and_other_pixels_are_not_paired() -> None:
    rows = [
        _vq("fixed-vq", 0, "a", 100, "pa") | {"image_sha256": "one"},
        _vq("fixed-vq", 0, "b", 300, "pb") | {"image_sha256": "two"},
        _vq("hypervq", 0, "a", 80, "pa") | {"image_sha256": "one"},
        _vq("hypervq", 0, "b", 1, "pb") | {"image_sha256": "other"},
    ]
    table = saving_table(pd.DataFrame(rows))
    assert table[["images", "bytes", "anchor_bytes"]].to_numpy().tolist() == [[1, 80, 100]]


def test_each_tokenizer_has_its_own_fixed_length() -> None:
    sizes = {"fixed-vq-f8": 1000, "hypervq-f8": 700, "fixed-vq": 500, "hypervq": 400, "mine": 250}
    results = pd.DataFrame([_vq(codec, 0, "a", size, codec[-3:]) for codec, size in sizes.items()])
    table = saving_table(results).set_index("codec")
    assert table["anchor"].to_dict() == {"hypervq-f8": "fixed-vq-f8", "hypervq": "fixed-vq", "mine": "fixed-vq"}
    assert table["tokenizer"].to_dict() == {"hypervq-f8": "f8-k1024", "hypervq": "f16-k1024", "mine": ""}
    assert table["saved_percent"].to_dict() == pytest.approx({"hypervq-f8": 30, "hypervq": 20, "mine": 50})
    assert list(saving_table(results, ["hypervq"])["codec"]) == ["hypervq"]


def test_the_end_of_a_run_says_it_of_every_tokenizer() -> None:
    sizes = {"fixed-vq-f8": 1000, "hypervq-f8": 665}
    rows = [
        {**_vq(codec, point, "a", size, f"pixels{point}{codec if point else ''}"), "point_name": "L", "reason": "",
         "width": 100, "height": 100, "bpp": 8 * size / 1e4, "jobs": 2, "metrics": "{}", "protocol": "",
         "encode_s": 1.0, "decode_s": 1.0}
        for codec, size in sizes.items() for point in (0.0, 0.8)
    ]  # fmt: skip
    lines = [line.split() for line in summarize(pd.DataFrame(rows)).splitlines()]
    assert lines[0][4] == "saved"
    saved = {(line[0], line[2]): line[5:-2] for line in lines[2:]}
    assert saved["hypervq-f8", "0"] == ["33.5", "%"]
    assert saved["hypervq-f8", "0.8"] == saved["fixed-vq-f8", "0"] == ["-"]  # other pixels; nothing against itself


def test_report_and_page_show_the_same_savings() -> None:
    sizes = {"fixed-vq-f8": 1000, "hypervq-f8": 665, "huffman-vq-f8": 950}
    extra = {"bpp": 0.1, "reason": ""}
    results = pd.DataFrame([_vq(codec, 0, "a", size, "p") | extra for codec, size in sizes.items()])
    scope = Scope(ReportData(results), Selection())
    (report,) = saving(TableSpec(kind="saving"), scope)
    page, facts = of_dataset(scope, "toy")
    shown = {row[1].text: row[-3].text for row in page["saving"].cells}
    assert shown == {"hypervq-f8": "33.50", "huffman-vq-f8": "5.00"}
    pd.testing.assert_frame_equal(page["saving"].frame, report.frame)
    assert ("33.5 %", "fewer bytes by hypervq-f8 than fixed-vq-f8") in [(fact.value, fact.text) for fact in facts]


def test_a_point_of_another_kind_is_no_equal_point() -> None:
    rows = [_vq("fixed-vq", 5, "a", 100, "p") | {"point_name": "L"}, _vq("mine", 5, "a", 80, "p") | {"point_name": "q"}]
    assert saving_table(pd.DataFrame(rows)).empty
    assert len(saving_table(pd.DataFrame(rows).assign(point_name="L"))) == 1


def test_saving_without_an_anchor_or_without_indices_is_empty() -> None:
    results = pd.DataFrame([_vq("hypervq", 0, "a", 80, "pa"), _vq("fixed-vq", 0, "a", 100, "pa")])
    assert saving_table(results.drop(columns="bytes.indices")).empty
    assert saving_table(pd.DataFrame([_vq("hypervq", 0, "a", 80, "pa")])).empty


def _vq(codec: str, point: float, image: str, size: int, pixels: str) -> dict[str, object]:
    row = {"codec": codec, "dataset": "toy", "point": point, "image": image, "status": "ok", "bytes": size}
    return row | {"bytes.indices": float(size - 12), "reconstruction_sha256": pixels}
