"""Benchmark for generative image compression, with the reference implementation of hyperprior coding for VQ codecs.

>>> import hvqbench
>>> codec = hvqbench.load_codec("jpeg")
>>> codec.spec.point_name
'quality'

Every name below is loaded when it is first used, so that ``import hvqbench`` costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hvqbench.analysis.bd import bd_rate
    from hvqbench.bench import read_results, run
    from hvqbench.catalog import load_codec
    from hvqbench.data import load_dataset
    from hvqbench.metrics import load_metric

    __version__: str

__all__ = ["__version__", "bd_rate", "load_codec", "load_dataset", "load_metric", "read_results", "run"]

_HOMES = {
    "bd_rate": "hvqbench.analysis.bd",
    "load_codec": "hvqbench.catalog",
    "load_dataset": "hvqbench.data",
    "load_metric": "hvqbench.metrics",
    "read_results": "hvqbench.bench",
    "run": "hvqbench.bench",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return _version()
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'hvqbench' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)


def _version() -> str:
    from importlib import metadata

    try:
        return metadata.version("hvqbench")
    except metadata.PackageNotFoundError:  # a checkout on the path that was never installed
        return "0+unknown"
