"""What there is, and whether it can run here: the data behind ``hvqbench ls``."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from hvqbench.errors import HvqbenchError, say

if TYPE_CHECKING:
    from hvqbench.codec import CodecSpec

Listing = list[dict[str, Any]]
"""One dict for each entry: ``id``, ``summary``, ``ready``, ``reason`` (with its remedy, empty if ready), and more."""


def list_codecs() -> Listing:
    """All codecs. A broken one is an entry with its reason, and hides no other.

    Adapters are imported, to ask what they miss; no program is run.
    """
    from hvqbench.catalog import codec_files, read_spec

    _say_first_use()
    listing = []
    for name, path in codec_files().items():
        try:
            spec = read_spec(path)
            reason = _missing(spec)
            extra: dict[str, Any] = {"point_name": spec.point_name, "points": list(spec.points)}
            extra |= {"tags": list(spec.tags), "protocol": asdict(spec.protocol), "needs": asdict(spec.needs)}
            listing.append(_entry(name, spec.summary, reason, **extra, reference=spec.reference))
        except HvqbenchError as error:
            listing.append(_entry(name, "(no valid codec.toml)", str(error)))
    return listing


def _missing(spec: CodecSpec) -> str | None:
    """Why a codec cannot run here, as far as that can be seen; None if it can."""
    from hvqbench.catalog import codec_of

    try:
        codec = codec_of(spec)
        reason = codec.missing()
        assert reason or codec.ingredients  # raises if a file that it is made of is not there
        return reason
    except HvqbenchError as error:
        return str(error)
    except Exception as error:  # an adapter's own, of any kind
        return f"{type(error).__name__}: {error}; correct or reinstall the adapter or its files"


def _say_first_use() -> None:
    """Once for each catalog of the user's: to list its codecs is to run their adapters."""
    from hashlib import sha256

    from hvqbench.catalog import content_folders
    from hvqbench.downloads import cache_folder

    for folder in content_folders("codecs")[1:]:
        adapters = sorted(folder.glob("*/adapter.py"))
        mark = cache_folder() / "catalogs" / sha256(str(folder).encode(errors="surrogateescape")).hexdigest()[:16]
        if adapters and not mark.exists():
            count = "1 adapter" if len(adapters) == 1 else f"{len(adapters)} adapters"
            say(f"{folder}: listing imports its {count}, code that runs with your rights (said once for each catalog)")
            with suppress(OSError):  # then it is said again
                mark.parent.mkdir(parents=True, exist_ok=True)
                mark.touch()


def list_datasets() -> Listing:
    """All data sets of the catalog; nothing is downloaded."""
    from hvqbench.catalog import dataset_files
    from hvqbench.data import dataset_unavailable
    from hvqbench.manifest import read_manifest

    listing = []
    for name, path in dataset_files().items():
        try:
            manifest = read_manifest(path)
            extra = {"images": manifest.images, "licence": manifest.licence}
            extra |= {"megabytes": manifest.megabytes if manifest.urls else 0}  # to download, where it is not here yet
            listing.append(_entry(name, manifest.summary, dataset_unavailable(name), **extra))
        except HvqbenchError as error:
            listing.append(_entry(name, "(no valid manifest)", str(error)))
    return listing


def list_metrics() -> Listing:
    """All metrics, pyiqa's as one entry; none is loaded."""
    from hvqbench.metrics import metric_ids, metric_info
    from hvqbench.metrics.pyiqa import pyiqa_entry

    listing = []
    for name in metric_ids():
        try:
            info = metric_info(name)
            extra = {"title": info.title, "unit": info.unit, "higher_is_better": info.higher_is_better}
            extra |= {"network": info.net, "input": info.input, "version": info.version, "of_set": info.of_set}
            listing.append(_entry(name, info.summary, info.unavailable(), **extra, reference=info.reference))
        except HvqbenchError as error:
            listing.append(_entry(name, "(no valid metric)", str(error)))
    return [*listing, _entry(*pyiqa_entry())]


def _entry(name: str, summary: str, reason: str | None, **extra: Any) -> dict[str, Any]:
    return {"id": name, "summary": summary, "ready": reason is None, "reason": reason or "", **extra}
