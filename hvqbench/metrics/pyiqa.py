"""Any metric of the package pyiqa (Chen et al., IQA-PyTorch), as ``pyiqa:<its name>``.

The package is an extra, since its licence is non-commercial and it brings 28 others; it is imported when a metric is
computed, and not before. Polarity and range are read from its table of metrics, a module of data that needs no import
of the package. Its ranges are rough where it writes ``~``, and count as unbounded there.

A metric without a reference (pyiqa's mode NR) is of the decoded image alone.
"""

from __future__ import annotations

import functools
import importlib.util
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hvqbench.codec import Image
from hvqbench.errors import HvqbenchError, UnavailableError, did_you_mean
from hvqbench.metrics import PYIQA
from hvqbench.metrics.base import Metric, MetricInfo

if TYPE_CHECKING:
    import torch

INSTALL = "pip install 'hvqbench[pyiqa]'"
OF_SETS = ("FID", "InceptionScore")
"""Types of pyiqa's metrics that compare folders."""


def pyiqa_info(name: str) -> MetricInfo:
    """What ``pyiqa:<metric>`` is.

    Raises
    ------
    HvqbenchError
        pyiqa is not installed, has no such metric, or it is one of whole sets.
    """
    configs = _configs()
    if configs is None:
        raise UnavailableError(f"metric {name} is pyiqa's, which is not installed: run `{INSTALL}`")
    metric = name.removeprefix(PYIQA)
    if metric not in configs:
        raise did_you_mean("metric", name, [PYIQA + known for known in configs])
    config = configs[metric]
    if config["metric_opts"]["type"] in OF_SETS:
        raise HvqbenchError(f"{name} compares folders of images, and not two images: use fid-256 and kid-256")
    kind = "full reference" if config["metric_mode"] == "FR" else "no reference: of the decoded image alone"
    return MetricInfo(
        id=name,
        title=f"{metric} (pyiqa)",
        unit="",
        summary=f"pyiqa's {metric}, {kind}; pyiqa says its range is {config['score_range']}",
        higher_is_better=not config.get("lower_better", False),
        range=parse_range(config["score_range"]),
        target="hvqbench.metrics.pyiqa:PyIQA",
        options={"metric": metric, "full_reference": config["metric_mode"] == "FR"},
        net=", ".join(f"{key} {value}" for key, value in config["metric_opts"].items()),
        input="[0, 1]",
        distributions={"pyiqa": "pyiqa"},
        reference="Chen et al., IQA-PyTorch, and what it cites for this metric",
    )


def pyiqa_entry() -> tuple[str, str, str | None]:
    """What a list of metrics says of all of them: an id, a summary, and why they cannot be had here, if so."""
    configs = _configs()
    several = f"any of pyiqa's {len(configs)} metrics" if configs else "any metric of the package pyiqa"
    reason = None if configs else f"the extra pyiqa is not installed: run `{INSTALL}`"
    return f"{PYIQA}NAME", f"{several}, such as pyiqa:niqe", reason


class PyIQA(Metric):
    """One of pyiqa's metrics, on the CPU or a GPU, as ``pyiqa.create_metric`` configures it."""

    _network: Any = None
    _device = "cpu"

    def prepare(self, device: str = "cpu") -> None:
        if self._network is None or device != self._device:
            self._network, self._device = self._create(device), device

    def _create(self, device: str) -> Any:
        from hvqbench.metrics.networks import import_torchvision

        metric = self.info.options["metric"]
        try:
            import_torchvision()
            import pyiqa
            import torch

            return pyiqa.create_metric(metric, device=torch.device(device))
        except ImportError as error:
            raise UnavailableError(f"pyiqa cannot be imported ({_first_line(error)}): run `{INSTALL}`") from None
        except Exception as error:  # a download that fails in one of many ways, or a network that lacks a package
            remedy = "check the network, or put its weights where pyiqa looks for them"
            raise UnavailableError(f"pyiqa cannot load {metric} ({_first_line(error)}); {remedy}") from None

    def _features(self, image: Image) -> torch.Tensor:
        import torch

        return torch.tensor(image).permute(2, 0, 1)[None].float() / 255

    def _score(self, features: torch.Tensor, image: Image) -> float:
        import torch

        self.prepare(self._device)
        images = [self._features(image)] + ([features] if self.info.options["full_reference"] else [])
        try:
            with torch.inference_mode():
                return float(self._network(*images))
        except Exception as error:  # a network's own: too small an image, as a rule
            raise HvqbenchError(f"{self.info.id} fails on this image: {_first_line(error)}") from None


def parse_range(text: str) -> tuple[float, float]:
    """Pyiqa's range of a score, such as ``"~0, 1"``; without bound where it is rough, or no range.

    >>> parse_range("0, 1"), parse_range("~0, ~100"), parse_range("0, ~")
    ((0.0, 1.0), (-inf, inf), (0.0, inf))
    """
    try:
        low, high = (part.strip() for part in text.split(","))
        return -math.inf if low[0] == "~" else float(low), math.inf if high[0] == "~" else float(high)
    except (ValueError, IndexError):
        return -math.inf, math.inf


@functools.cache
def _configs() -> Mapping[str, Mapping[str, Any]] | None:
    """Pyiqa's own table of its metrics; None without pyiqa. Runs that one file, not the package."""
    package = importlib.util.find_spec("pyiqa")
    if package is None or not package.submodule_search_locations:
        return None
    path = Path(package.submodule_search_locations[0]) / "default_model_configs.py"
    spec = importlib.util.spec_from_file_location("hvqbench_pyiqa_configs", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    configs: Mapping[str, Mapping[str, Any]] = module.DEFAULT_CONFIGS
    return configs


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
