"""What there is, and whether it can run here: the data behind ``hvqbench ls``."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from hvqbench.errors import HvqbenchError

Listing = list[dict[str, Any]]
"""One dict for each entry: ``id``, ``summary``, ``ready``, ``reason`` (with its remedy, empty if ready), and more."""


def list_codecs() -> Listing:
    """All codecs. A broken one is an entry with its reason, and hides no other."""
    from hvqbench.bench.plan import find_codec
    from hvqbench.catalog import codec_files

    listing = []
    for name, path in codec_files().items():
        try:
            entry = find_codec(str(path))
            reason = entry.unavailable()
            spec = entry.spec
            extra: dict[str, Any] = {"point_name": spec.point_name, "points": list(spec.points)}
            extra |= {"tags": list(spec.tags), "protocol": asdict(spec.protocol), "needs": asdict(spec.needs)}
            listing.append(_entry(name, spec.summary, reason, **extra, reference=spec.reference))
        except HvqbenchError as error:
            listing.append(_entry(name, "(no valid codec.toml)", str(error)))
    return listing


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
