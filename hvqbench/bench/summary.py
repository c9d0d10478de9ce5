"""The table at the end of a run, as plain text: it fits a terminal, a log and a pipe alike."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

FIXED_LENGTH = "fixed-vq"
METRIC_ORDER = ("lpips-alex", "lpips-vgg", "dists", "psnr", "ms-ssim")


def summarize(rows: pd.DataFrame) -> str:
    """Means over images for each codec and point, then what failed and why.

    ``saved`` is one minus the ratio of total bytes to those of ``fixed-vq`` at the same point, over the images that
    both have. MP/s are megapixels by seconds in total, and only shown where no other job was running.
    """
    fine = rows[rows["status"] == "ok"]
    parts = []
    if len(fine):
        parts.append(_align(_table(fine, rows)))
    parts += [_problems(rows, status) for status in ("failed", "unavailable") if (rows["status"] == status).any()]
    return "\n\n".join(parts) or "no rows"


def _table(fine: pd.DataFrame, rows: pd.DataFrame) -> list[list[str]]:
    metrics = [name for name in _metric_columns(fine) if fine[name].notna().any()]
    with_saving = (fine["codec"] == FIXED_LENGTH).any()
    head = ["codec", "point", "images", "bpp", *metrics, *(["saved"] if with_saving else []), "enc MP/s", "dec MP/s"]
    lines = [head]
    for (codec, point), group in fine.groupby(["codec", "point"], sort=False):
        asked = len(rows[(rows["codec"] == codec) & (rows["point"] == point)])
        count = f"{len(group)}" if len(group) == asked else f"{len(group)} of {asked}"
        line = [str(codec), f"{group['point_name'].iloc[0]} {point:g}", count, f"{group['bpp'].mean():.4f}"]
        line += [_mean(group, name) for name in metrics]
        if with_saving:
            line.append(_saving(fine, group))
        lines.append([*line, _speed(group, "encode_s"), _speed(group, "decode_s")])
    return lines


def _mean(group: pd.DataFrame, metric: str) -> str:
    # A mean over some of the images is not to be compared with one over all of them.
    return "-" if group[metric].isna().any() else f"{group[metric].mean():.{2 if metric == 'psnr' else 4}f}"


def _metric_columns(rows: pd.DataFrame) -> list[str]:
    import json

    measured = {name for text in rows["metrics"].unique() for name in json.loads(text)}
    return [n for n in METRIC_ORDER if n in measured] + sorted(measured - set(METRIC_ORDER))


def _saving(fine: pd.DataFrame, group: pd.DataFrame) -> str:
    first = group.iloc[0]
    # The same number means the same thing only to codecs of one kind: quality 5 is no weight of 5.
    same = (fine["point"] == first["point"]) & (fine["point_name"] == first["point_name"])
    fixed = fine[same & (fine["codec"] == FIXED_LENGTH)].set_index("image")["bytes"]
    own = group.set_index("image")["bytes"]
    common = own.index.intersection(fixed.index)
    if first["codec"] == FIXED_LENGTH or common.empty:
        return "-"
    return f"{100 * (1 - own[common].sum() / fixed[common].sum()):.1f} %"


def _speed(group: pd.DataFrame, column: str) -> str:
    alone = group[(group["jobs"] == 1) & (group[column] > 0)]
    if alone.empty:
        return "-"
    return f"{(alone['width'] * alone['height']).sum() / 1e6 / alone[column].sum():.3g}"


def _align(lines: list[list[str]]) -> str:
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]

    def text(line: list[str]) -> str:
        return "  ".join(c.ljust(w) if i < 2 else c.rjust(w) for i, (c, w) in enumerate(zip(line, widths, strict=True)))

    rule = "  ".join("-" * width for width in widths)
    return "\n".join([text(lines[0]), rule, *map(text, lines[1:])])


def _problems(rows: pd.DataFrame, status: str) -> str:
    """Each reason once, with how often it occurred and where first."""
    bad = rows[rows["status"] == status]
    counts = Counter(zip(bad["codec"], bad["reason"], strict=True))
    title = f"{len(bad)} failed (--rerun failed tries them again):" if status == "failed" else "cannot run here:"
    lines = [title]
    for (codec, reason), count in counts.most_common():
        first = bad[(bad["codec"] == codec) & (bad["reason"] == reason)].iloc[0]
        point = "" if first["point"] != first["point"] else f" at {first['point_name']} {first['point']:g}"
        where = f" {first['image']}{point}" if first["image"] else ""
        more = f" and {count - 1} more" if count > 1 else ""
        lines.append(f"  {codec}{where}{more}: {reason}")
    return "\n".join(lines)


def exit_code(rows: pd.DataFrame) -> int:
    """0 if some rows are fine and none failed, else 1; codecs that cannot run here only count if nothing could."""
    return int(not (rows["status"] == "ok").any() or bool((rows["status"] == "failed").any()))
