"""What may be compared: the docs' table and the tool's judgement are one, and each rule is found where it holds."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from hvqbench import cli
from hvqbench.analysis.comparable import CHECKS, Judgement, judge
from hvqbench.protocol import FLAGS

PAGE = Path(__file__).parents[1] / "docs" / "what-may-i-compare.md"


def rows(codec: str, images: int = 24, dataset: str = "kodak", protocol: str = "", **changes: Any) -> pd.DataFrame:
    made = [
        {"dataset": dataset, "codec": codec, "point": float(point), "point_name": "q", "image": f"kodim{image:02}"}
        | {"status": "ok", "reason": "", "bpp": 0.1 * (point + 1), "psnr": 25.0 + point, "protocol": protocol}
        | {"metrics": '{"psnr": "psnr/1"}', "started": "2026", "width": 8, "height": 8, **changes}
        for point, image in itertools.product(range(3), range(images))
    ]
    return pd.DataFrame(made)


def found(*parts: pd.DataFrame, codec: str = "a", anchor: str = "b", **options: Any) -> Judgement:
    (one,) = judge(pd.concat(parts, ignore_index=True), codec, anchor, ["psnr"], **options)
    return one


def test_like_for_like_is_yes() -> None:
    one = found(rows("a"), rows("b"))
    assert (one.verdict, dict(one.found), one.images) == ("yes", {}, 24)
    assert one.text == "yes        a and b on kodak in psnr, 24 images"


@pytest.mark.parametrize(
    ("changes", "key", "verdict", "more"),
    [
        ({"dataset": "toy"}, "other_set", "no", "a: kodak; b: toy"),
        ({"psnr": None, "dists": 0.1}, "other_metric", "no", "b has dists"),
        ({"metrics": '{"psnr": "psnr/0"}'}, "versions_differ", "no", "psnr/1, psnr/0"),
        ({"images": 6}, "images_differ", "with care", "24 and 6 images, 6 in common"),
        ({"protocol": "estimated-rate"}, "bytes_and_estimates", "no", ""),
        ({"protocol": "resized"}, "resized", "with care", "b"),
        ({"protocol": "payload-only stochastic"}, "payload-only", "with care", "b"),
    ],
)
def test_each_rule_is_found(changes: dict[str, Any], key: str, verdict: str, more: str) -> None:
    one = found(rows("a"), rows("b", **changes))
    assert one.verdict == verdict
    assert one.found[key] == more
    assert f"{key}: {CHECKS[key][1]}" in one.text


def test_images_that_are_not_the_same_are_no_comparison() -> None:
    other = rows("b").assign(image=[f"x{number % 24}" for number in range(72)])
    assert found(rows("a"), other).found == {"other_images": "24 and 24 images, 0 in common"}


def test_two_estimates_may_stand_side_by_side_with_care() -> None:
    one = found(rows("a", protocol="estimated-rate"), rows("b", protocol="nominal-rate"))
    assert one.verdict == "with care"
    assert set(one.found) == {"estimated-rate", "nominal-rate"}


def test_published_curves() -> None:
    some, whole = found(rows("a", 2), anchor="published:vtm"), found(rows("a"), anchor="published:vtm")
    assert some.found == {"part_of_set": "a: 2 of 24 images", "published": "vtm (published)"}
    assert (whole.verdict, dict(whole.found)) == ("with care", {"published": "vtm (published)"})
    (padded,) = judge(rows("a"), "published:diffeic", "published:vtm", ["psnr"], "kodak")
    assert padded.found["padded"] == "diffeic (published)"
    (other,) = judge(rows("a", dists=0.1), "a", "published:vtm", ["dists"])
    assert other.verdict == "no"
    assert other.found["other_metric"].startswith("published:vtm has psnr")


def test_by_default_every_metric_of_every_shared_set_is_judged() -> None:
    both = [pd.concat([rows(c), rows(c, dataset="toy", dists=0.1)]) for c in "ab"]
    judged = judge(pd.concat(both, ignore_index=True), "a", "b")
    assert [(one.dataset, one.metric) for one in judged] == [("kodak", "psnr"), ("toy", "psnr"), ("toy", "dists")]


def test_the_page_has_every_rule_with_its_verdict() -> None:
    table = dict(re.findall(r"^\| `([\w-]+)` \| ([\w ]+) \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE))
    assert table == {key: verdict for key, (verdict, _) in CHECKS.items()}
    assert FLAGS.keys() < CHECKS.keys()


def test_the_commands(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from hvqbench.bench.store import Store

    place = ["--results", str(tmp_path)]
    for row in pd.concat([rows("a", 6), rows("b", 6, protocol="resized")]).to_dict("records"):
        store_row = row | {"key": f"{row['codec']}{row['point']}{row['image']}", "codec_fingerprint": "1"}
        Store(tmp_path).append({str(key): value for key, value in store_row.items()})

    def run(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as caught:
            cli.main([*arguments, *place])
        return int(caught.value.code or 0), *capsys.readouterr()

    code, out, _ = run("comparable", "a", "b")
    assert code == 0
    assert out.startswith("with care  a and b on kodak in psnr, 6 images\n           resized: the image was coded")
    code, out, _ = run("comparable", "a", "published:vtm", "--metric", "lpips", "--json")
    assert (code, json.loads(out)[0]["verdict"]) == (1, "no")
    assert "the results have no codec 'c'" in run("comparable", "a", "c")[2]
    assert "unknown metric 'psn'" in run("comparable", "a", "b", "--metric", "psn")[2]
    # The same judgement, in `bd`.
    code, out, _ = run("bd", "--anchor", "a", "--metric", "psnr")
    assert f"not like for like:\n  resized (b): {FLAGS['resized']}\n" in out
    code, out, _ = run("bd", "--anchor", "a", "--metric", "psnr", "--json")
    assert json.loads(out)[0]["unlike"] == "resized"
