"""The tables at the end of a run, as plain text: they fit a terminal, a log and a pipe alike."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from hvqbench.bench.rows import SET
from hvqbench.grid import grid
from hvqbench.protocol import codec_flags, explain

if TYPE_CHECKING:
    import pandas as pd

METRIC_ORDER = ("lpips-alex", "lpips-vgg", "dists", "psnr", "ms-ssim", "ssimulacra2")
DECIMALS = {"psnr": 2, "ssimulacra2": 2}


def summarize(rows: pd.DataFrame) -> str:
    """Means over images for each codec and point, then what failed and why.

    ``saved`` is one minus the ratio of total bytes to those of the tokenizer's fixed-length codec at the same point,
    over the images that both have, where both restored the same pixels. MP/s are megapixels by seconds in total, and
    only shown where no other job was running.
    """
    fine = rows[rows["status"] == "ok"]
    parts = []
    if len(fine):
        parts.append(_table(fine, rows[rows["image"] != ""]))
        if unlike := explain(codec_flags(fine)):
            parts.append("\n".join(["not like for like:", *(f"  {line}" for line in unlike)]))
        parts += _tails(fine)
    if len(sets := rows[rows["status"] == SET]):
        parts.append("\n".join(["of whole sets:", _set_table(sets)]))
    parts += [_problems(rows, status) for status in ("failed", "unavailable") if (rows["status"] == status).any()]
    if len(unscored := fine[fine["reason"] != ""]):
        lines = [
            f"  {codec} {group['image'].iloc[0]} and {len(group) - 1} more: {reason}"
            for (codec, reason), group in unscored.groupby(["codec", "reason"], sort=False)
        ]
        parts.append("\n".join([f"{len(unscored)} rows lack a metric that failed:", *lines]))
    return "\n\n".join(parts) or "no rows"


def summary_json(rows: pd.DataFrame) -> str:
    """The same for machines: a record for each codec and point, with counts and means, null where there is no mean.

    ``failed`` counts failed rows and ``unscored`` those that lack a metric which failed, with ``reasons``. What failed
    before there was a point (an image that cannot be read) has a record for each codec.
    """
    import json

    records: list[dict[str, Any]] = []
    measured = rows[(rows["status"] != SET) & rows["point"].notna()]
    for (codec, _), group in measured.groupby(["codec", "point"], sort=False):
        fine = group[group["status"] == "ok"]
        # A mean over some of the images is not to be compared with one over all of them.
        means = {n: None if fine[n].isna().any() else float(fine[n].mean()) for n in ("bpp", *_metric_columns(fine))}
        bad = group[group["reason"] != ""]
        counts: dict[str, Any] = {"images": len(fine), "failed": int((group["status"] == "failed").sum())}
        counts["unscored"] = int((fine["reason"] != "").sum())
        if len(bad):
            counts["reasons"] = {str(reason): int(n) for reason, n in bad["reason"].value_counts(sort=False).items()}
        place = {"codec": codec, "point_name": group["point_name"].iloc[0], "point": float(group["point"].iloc[0])}
        records.append(place | counts | (means if len(fine) else {}))
    unreadable = rows[(rows["status"] == "failed") & rows["point"].isna()]
    for codec, group in unreadable.groupby("codec", sort=False):
        reasons = dict(zip(group["image"], group["reason"], strict=True))
        records.append({"codec": codec, "images": 0, "failed": len(group), "unreadable": reasons})
    for codec, group in rows[rows["status"] == "unavailable"].groupby("codec", sort=False):
        records.append({"codec": codec, "unavailable": group["reason"].iloc[0]})
    return json.dumps(records, indent=2)


def summarize_timing(rows: pd.DataFrame) -> str:
    """Times, memory and stages for each codec and point of one pass (:func:`~hvqbench.bench.timing.read_timing`).

    Milliseconds are the median, and in brackets the interquartile range, over all calls: images and repetitions. MP/s
    are the images' megapixels over their times (each the median of its repetitions). ``x`` is a time over that of the
    table's first line: the median of the images' ratios. MB is peak memory, of a process that does nothing else; then
    come the parameters of the codec's networks, in millions, and their thousands of multiply-accumulates per pixel.
    Of rounds beside which others were working there are ratios, and no seconds.
    """
    fine = rows[rows["status"] == "ok"]
    parts = []
    if len(fine):
        quiet = fine[~fine["busy"].astype(bool)]
        parts += [_time_table(fine), *([_stage_table(quiet)] if len(quiet) else [])]
        parts.append(_machine(rows, seconds=len(quiet) > 0))
    parts += [_problems(rows, status) for status in ("failed", "unavailable") if (rows["status"] == status).any()]
    return "\n\n".join(parts) or "no rows"


def _time_table(fine: pd.DataFrame) -> str:
    groups = list(fine.groupby(["codec", "point"], sort=False))
    kinds = [
        kind for kind in ("memory", "gpu_memory") if f"encode_{kind}" in fine and fine[f"encode_{kind}"].notna().any()
    ]
    memory = [f"{side}_{kind}" for kind in kinds for side in ("encode", "decode")]
    short = {"encode": "enc", "decode": "dec"}
    head = ["codec", "point", "calls", "encode ms", "decode ms", "enc MP/s", "dec MP/s", "enc x", "dec x"]
    head += [f"{short[name[:6]]} {'GPU ' if 'gpu' in name else ''}MB" for name in memory]
    work = {"parameters": ("Mparam", 1e6), "encode_macs_per_pixel": ("enc kMAC/px", 1e3)}
    work |= {"decode_macs_per_pixel": ("dec kMAC/px", 1e3)}
    work = {name: column for name, column in work.items() if name in fine and fine[name].notna().any()}
    head += [title for title, _ in work.values()]
    lines = []
    for (codec, point), group in groups:
        line = [str(codec), f"{group['point_name'].iloc[0]} {point:g}", f"{len(group)}"]
        quiet = group[~group["busy"].astype(bool)]
        line += [_milliseconds(quiet[f"{side}_s"]) for side in short]
        line += [f"{_megapixels(quiet) / _per_image(quiet, side).sum():.3g}" if len(quiet) else "-" for side in short]
        per_image = [_per_image(group, side) for side in short]
        first = [_per_image(groups[0][1], side) for side in short]
        ratios = [(own / other).median() for own, other in zip(per_image, first, strict=True)]
        line += ["-" if ratio != ratio else f"{ratio:.{_digits(ratio)}f}" for ratio in ratios]
        line += ["-" if group[name].isna().all() else f"{group[name].max() / 1e6:.0f}" for name in memory]
        line += [
            "-" if group[name].isna().all() else f"{group[name].max() / unit:.3g}" for name, (_, unit) in work.items()
        ]
        lines.append(line)
    return grid(head, lines, left=2)


def _stage_table(fine: pd.DataFrame) -> str:
    """The whole, CPU time and the codec's own stages; one line each for encoding and decoding."""
    stages = list(dict.fromkeys(name.partition("_s.")[2] for name in fine.columns if "_s." in name))
    lines = []
    for (codec, point), group in fine.groupby(["codec", "point"], sort=False):
        for side in ("encode", "decode"):
            columns = [f"{side}_s", f"{side}_cpu_s", *(f"{side}_s.{stage}" for stage in stages)]
            cells = [_milliseconds(group[name]) if name in group else "-" for name in columns]
            lines.append([str(codec), f"{group['point_name'].iloc[0]} {point:g}", side, *cells])
    return grid(["codec", "point", "ms in", "whole", "CPU", *stages], lines, left=3)


def _per_image(group: pd.DataFrame, side: str) -> pd.Series:
    return group.groupby("image")[f"{side}_s"].median()


def _megapixels(group: pd.DataFrame) -> float:
    images = group.drop_duplicates("image")
    return float((images["width"] * images["height"]).sum()) / 1e6


def _milliseconds(seconds: pd.Series) -> str:
    """``median (interquartile range)``, and a dash where there is none."""
    if seconds.isna().all():
        return "-"
    low, middle, high = (float(1000 * seconds.quantile(q)) for q in (0.25, 0.5, 0.75))
    digits = _digits(middle)
    return f"{middle:.{digits}f} ({high - low:.{digits}f})"


def _digits(value: float) -> int:
    """Decimals that leave three digits."""
    return 0 if value >= 100 else 1 if value >= 10 else 2


def _machine(rows: pd.DataFrame, seconds: bool) -> str:
    first = rows.iloc[0]
    where = f"{first['cpu']} (cores {first['cores']}, threads {first['threads']}, governor {first['governor']})"
    where += f", {first['device_name']}" if first["device_name"] else ""
    lines = [f"Median ms (interquartile range) on {where}." if seconds else f"On {where}."]
    if rows["busy"].any():
        others = rows["others_cores"].max()
        how = f"load average {first['load_average']:.2f} at the start"
        how += f", up to {others:.2f} cores busy with other work" if others == others else ""
        left_out = "the seconds are of the other rounds alone" if seconds else "ratios hold, and there are no seconds"
        lines.append(f"Others were working ({how}): {left_out}. Wait, and time again.")
    return "\n".join(lines)


def _table(fine: pd.DataFrame, rows: pd.DataFrame) -> str:
    metrics = [name for name in _metric_columns(fine) if fine[name].notna().any()]
    saved = _savings(fine)
    head = ["codec", "point", "images", "bpp", *metrics, *(["saved"] if saved else []), "enc MP/s", "dec MP/s"]
    lines = []
    for (codec, point), group in fine.groupby(["codec", "point"], sort=False):
        asked = len(rows[(rows["codec"] == codec) & (rows["point"] == point)])
        count = f"{len(group)}" if len(group) == asked else f"{len(group)} of {asked}"
        line = [str(codec), f"{group['point_name'].iloc[0]} {point:g}", count, f"{group['bpp'].mean():.4f}"]
        line += [_mean(group, name) for name in metrics]
        if saved:
            percent, images = saved.get((str(codec), float(str(point))), (None, 0))
            of = f" of {images}" if images < len(group) else ""
            line.append("-" if percent is None else f"{percent:.1f} %{of}")
        lines.append([*line, _speed(group, "encode_s"), _speed(group, "decode_s")])
    return grid(head, lines, left=2)


def _savings(fine: pd.DataFrame) -> dict[tuple[str, float], tuple[float, int]]:
    """Per cent that each codec saves where it restores the same pixels as fixed length, and of how many images."""
    from hvqbench.analysis.savings import saving_table

    table = saving_table(fine)
    exact = table[table["same_pixels"].astype(bool)]
    return {(r["codec"], r["point"]): (r["saved_percent"], r["images"]) for r in exact.to_dict("records")}


def _tails(fine: pd.DataFrame) -> list[str]:
    """The tenth of the images that is worst, and the worst one, in the first metric that there is."""
    from hvqbench.analysis.tails import FEWEST_IMAGES, tails_table

    metric = next((name for name in _metric_columns(fine) if fine[name].notna().any()), "")
    if not metric or fine["image"].nunique() < FEWEST_IMAGES:
        return []
    head = ["codec", "point", "images", metric, "best tenth", "worst tenth", "worst", "image"]
    lines = []
    for row in tails_table(fine, [metric]).to_dict("records"):
        cells = [row[name] for name in ("mean", "good", "bad", "worst")]
        numbers = ["-" if cell != cell else f"{cell:.{DECIMALS.get(metric, 4)}f}" for cell in cells]
        point = f"{row['point_name']} {row['point']:g}"
        lines.append([row["codec"], point, str(row["images"]), *numbers, row["worst_image"]])
    return [
        "\n".join([f"tails of {metric}: a tenth of the images is better, a tenth worse", grid(head, lines, left=2)])
    ]


def _set_table(sets: pd.DataFrame) -> str:
    metrics = _metric_columns(sets)
    lines = []
    for _, row in sets.iterrows():
        values = ["-" if row[name] != row[name] else f"{row[name]:.4g}" for name in metrics]
        point = f"{row['point_name']} {row['point']:g}"
        counts = [f"{row['images']:.0f}", f"{row['patches']:.0f}", f"{row['bpp']:.4f}"]
        lines.append([row["codec"], point, *counts, *values])
    return grid(["codec", "point", "images", "patches", "bpp", *metrics], lines, left=2)


def _mean(group: pd.DataFrame, metric: str) -> str:
    # A mean over some of the images is not to be compared with one over all of them.
    return "-" if group[metric].isna().any() else f"{group[metric].mean():.{DECIMALS.get(metric, 4)}f}"


def _metric_columns(rows: pd.DataFrame) -> list[str]:
    import json

    measured = {name for text in rows["metrics"].unique() for name in json.loads(text)}
    return [n for n in METRIC_ORDER if n in measured] + sorted(measured - set(METRIC_ORDER))


def _speed(group: pd.DataFrame, column: str) -> str:
    alone = group[(group["jobs"] == 1) & (group[column] > 0)]
    if alone.empty:
        return "-"
    return f"{(alone['width'] * alone['height']).sum() / 1e6 / alone[column].sum():.3g}"


def _problems(rows: pd.DataFrame, status: str) -> str:
    """Each reason once, with how often it occurred and where first."""
    bad = rows[rows["status"] == status]
    counts = Counter(zip(bad["codec"], bad["reason"], strict=True))
    again = "" if "repeat" in rows else " (--rerun failed tries them again)"  # a timing pass is always measured anew
    title = f"{len(bad)} failed{again}:" if status == "failed" else "cannot run here:"
    lines = [title]
    for (codec, reason), count in counts.most_common():
        first = bad[(bad["codec"] == codec) & (bad["reason"] == reason)].iloc[0]
        point = "" if first["point"] != first["point"] else f" at {first['point_name']} {first['point']:g}"
        where = f" {first['image']}{point}" if first["image"] else ""
        more = f" and {count - 1} more" if count > 1 else ""
        lines.append(f"  {codec}{where}{more}: {reason}")
    return "\n".join(lines)


def exit_code(rows: pd.DataFrame) -> int:
    """0 if some rows are fine and none failed, else 1; codecs that cannot run here only count if nothing could.

    A row that lacks a metric which failed is not fine.
    """
    fine = rows["status"] == "ok"
    failed = (rows["status"] == "failed") | (fine & (rows["reason"] != ""))
    return int(not fine.any() or bool(failed.any()))
