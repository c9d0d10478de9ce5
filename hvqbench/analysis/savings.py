"""Bytes saved at equal reconstruction: index models of one tokenizer, against fixed length."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from hvqbench.errors import HvqbenchError

if TYPE_CHECKING:
    import pandas as pd

    from hvqbench.codec import CodecSpec

FIXED_LENGTH = "fixed-vq"
"""The codec whose bytes a saving is measured against, where the catalog does not know a codec's tokenizer."""

COLUMNS = (
    *("dataset", "tokenizer", "codec", "anchor", "point", "images", "bytes", "anchor_bytes"),
    *("saved_percent", "mean_saved_percent", "same_pixels"),
)


def saving_table(results: pd.DataFrame, codecs: Sequence[str] | None = None) -> pd.DataFrame:
    """Bytes saved by *codecs* against the fixed-length codec of their tokenizer, at equal operating point.

    At rate-control weight 0 all index models of one tokenizer reconstruct the same pixels, so the saving is exact: no
    curve and no interpolation. ``same_pixels`` says where that holds, from the digests of the reconstructions.

    Parameters
    ----------
    results
        One row per codec, operating point and image; the fixed-length codecs' too.
    codecs
        By default all of the results.

    Returns
    -------
    pandas.DataFrame
        One row per tokenizer, data set, codec and point that both have: ``images``, ``bytes`` and ``anchor_bytes``
        (totals over the images that both have), ``saved_percent`` (of the totals), ``mean_saved_percent`` (mean over
        images), ``same_pixels``. Empty if there is nothing to compare.
    """
    import pandas as pd

    if "bytes.indices" not in results.columns:
        return pd.DataFrame(columns=list(COLUMNS))
    # A quality of 5 is no weight of 5, and an image of the same name may have other pixels.
    kind = [name for name in ("point_name", "image_sha256") if name in results.columns]
    key = ["dataset", *kind, "point", "image"]
    ok = results.loc[
        (results["status"] == "ok") & results["bytes.indices"].notna(),
        [*key, "codec", "bytes", "reconstruction_sha256"],
    ]
    rows = []
    for tokenizer, (fixed, others) in architectures(ok["codec"].unique()).items():
        chosen = [codec for codec in others if codecs is None or codec in codecs]
        pairs = ok[ok["codec"].isin(chosen)].merge(ok[ok["codec"] == fixed], on=key, suffixes=("", "_of_anchor"))
        for (dataset, codec, point), group in pairs.groupby(["dataset", "codec", "point"], sort=True):
            own, other = group["bytes"].astype(float), group["bytes_of_anchor"].astype(float)
            same = group["reconstruction_sha256"] == group["reconstruction_sha256_of_anchor"]
            saved, mean_saved = 100 * (1 - own.sum() / other.sum()), 100 * (1 - own / other).mean()
            place = (dataset, tokenizer, codec, fixed, point, len(group))
            rows.append((*place, int(own.sum()), int(other.sum()), saved, mean_saved, bool(same.all())))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def architectures(codecs: Iterable[str]) -> dict[str, tuple[str, list[str]]]:
    """The VQ codecs among *codecs* by tokenizer: its name, its fixed-length codec, and the others.

    A tokenizer without its fixed-length codec among them is left out. Those that the catalog does not
    know are under an empty name, against :data:`FIXED_LENGTH`.
    """
    from hvqbench.catalog import codec_files, read_spec

    names, files = list(codecs), codec_files()
    places: dict[str, str] = {}
    fixed = {"": FIXED_LENGTH} if FIXED_LENGTH in names else {}
    for name in names:
        if name not in files:
            places[name] = ""
            continue
        with suppress(HvqbenchError):  # what is wrong with it is `ls codecs`'s to say
            spec = read_spec(files[name])
            if spec.adapter == "vq" and (place := _tokenizer(spec)):
                places[name] = place
                if spec.options.get("index_model") == "fixed":
                    fixed.setdefault(place, name)
    found: dict[str, tuple[str, list[str]]] = {}
    for name, place in places.items():
        if place in fixed and name != fixed[place]:
            found.setdefault(place.rpartition("/")[2], (fixed[place], []))[1].append(name)
    return found


def _tokenizer(spec: CodecSpec) -> str:
    """What tells a codec's tokenizer from others: its file or folder as an absolute path, or a name without one."""
    text = str(spec.options.get("tokenizer", ""))
    path, colon, name = text.partition(":")
    place = spec.folder / path
    return place.resolve().as_posix() + colon + name if text and place.exists() else text
