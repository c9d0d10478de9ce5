"""What a run prints at its end, for people and for machines."""

from __future__ import annotations

import json

import pandas as pd

from hvqbench.report.summary import summarize, summary_json


def rows() -> pd.DataFrame:
    """A point with two fine images, one failed and one without its metric; an image that no codec could read."""
    base = {"dataset": "toy", "codec": "a", "point": 1.0, "point_name": "q", "status": "ok", "reason": "", "bpp": 0.5}
    base |= {"metrics": '{"psnr": "psnr/1"}', "psnr": 30.0, "jobs": 2, "encode_s": 1.0, "decode_s": 1.0}
    base |= {"bytes": 100.0, "reconstruction_sha256": "r"}
    return pd.DataFrame(
        [
            base | {"image": "x"},
            base | {"image": "y"},
            base | {"image": "z", "psnr": None, "reason": "psnr: no memory"},
            base | {"image": "w", "status": "failed", "reason": "encoder: died", "bpp": None, "psnr": None},
            base | {"image": "v", "point": None, "status": "failed", "reason": "v.png is cut", "bpp": None},
        ]
    )


def test_json_counts_every_failure() -> None:
    point, unread = json.loads(summary_json(rows()))
    assert (point["images"], point["failed"], point["unscored"]) == (3, 1, 1)
    assert point["reasons"] == {"psnr: no memory": 1, "encoder: died": 1}
    assert (point["bpp"], point["psnr"]) == (0.5, None)  # no mean of some of the images
    assert unread == {"codec": "a", "images": 0, "failed": 1, "unreadable": {"v": "v.png is cut"}}


def test_a_saving_over_fewer_images_says_so() -> None:
    fine = rows().iloc[:2].assign(reason="")
    fixed = fine.iloc[:1].assign(codec="fixed-vq", bytes=200.0)
    assert "50.0 % of 1" in summarize(pd.concat([fixed, fine], ignore_index=True))
    both = pd.concat([fine.assign(codec="fixed-vq", bytes=200.0), fine], ignore_index=True)
    assert "50.0 %" in summarize(both)
    assert "% of" not in summarize(both)
