"""The contract of a metric: what it is, as data, and how one number comes about.

    metric = load_metric("lpips-alex")
    reference = metric.reference(original)              # once per image
    score = metric.score(reference, decoded)            # once per codec and operating point

    metric = load_set_metric("fid-256")
    features = metric.describe(image)                   # of an original or a decoded image
    value = metric.distance(of_originals, of_decoded)   # once per codec and operating point

Metrics see the 8-bit pixels that a decoder returned, never its floats.
"""

from __future__ import annotations

import importlib.util
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hvqbench.codec import Image, check_image
from hvqbench.errors import HvqbenchError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class MetricInfo:
    """All there is to know about a metric without loading it.

    Parameters
    ----------
    id, title, unit, summary
        ``unit`` is empty for a plain number.
    higher_is_better
        The metric's polarity.
    range
        Least and greatest possible value.
    target
        ``package.module:Class`` of the :class:`Metric`.
    options
        What distinguishes this metric from others of its class.
    net, input
        What else the id stands for: the network, and how 8-bit pixels are put into it. To change either is a new
        version.
    minimum_side
        Below this width or height, in pixels, the metric is undefined and its score is NaN.
    minimum_patches
        0 for a metric of one image. For a metric of a whole set, the number of patches below which it is refused unless
        small sets are asked for.
    distributions
        Distributions, by the module they provide, that the metric needs and whose version can move its values.
    version
        Raised whenever this implementation's values change.
    reference
        The paper to cite.
    """

    id: str
    title: str
    unit: str
    summary: str
    higher_is_better: bool
    range: tuple[float, float]
    target: str
    options: Mapping[str, Any] = field(default_factory=dict)
    net: str = ""
    input: str = "[0, 255]"
    minimum_side: int = 1
    minimum_patches: int = 0
    distributions: Mapping[str, str] = field(default_factory=dict)
    version: str = "1"
    reference: str = ""

    def unavailable(self) -> str | None:
        """Why the metric cannot be computed here and what to do, in one line; None if it can. Imports nothing."""
        for module, distribution in self.distributions.items():
            if importlib.util.find_spec(module) is None:
                return f"the package {distribution} is not installed: run `pip install {distribution}`"
        return None

    @property
    def of_set(self) -> bool:
        """Whether this is a metric of a whole set: it has no value for one image."""
        return self.minimum_patches > 0

    @property
    def libraries(self) -> tuple[str, ...]:
        """Distributions whose version can change the metric's values."""
        return tuple(self.distributions.values())


@dataclass(frozen=True)
class Reference:
    """An original as one metric sees it. Hold one image's at a time: VGG's features of 768x512 pixels take 190 MB."""

    shape: tuple[int, ...]
    features: Any


class Metric(ABC):
    """Base class of all metrics. A subclass says how an original is prepared, and how a decoded image is compared."""

    def __init__(self, info: MetricInfo) -> None:
        self.info = info

    def unavailable(self) -> str | None:
        """Why the metric cannot be computed here and what to do, in one line; None if it can."""
        return self.info.unavailable()

    def prepare(self, device: str = "cpu") -> None:  # noqa: B027 - most metrics have nothing to load
        """Load weights onto *device*. Idempotent; called by the first :meth:`reference` if nobody else did."""

    def reference(self, image: Image) -> Reference:
        """What :meth:`score` needs of the original *image* (uint8, H×W×3)."""
        check_image(image)
        defined = min(image.shape[:2]) >= self.info.minimum_side
        return Reference(image.shape, self._features(image) if defined else None)

    def score(self, reference: Reference, image: Image) -> float:
        """The metric between an original and *image* (uint8, same shape).

        NaN if the image is smaller than ``info.minimum_side``: the metric is undefined there, and padding would make
        up a number.

        Raises
        ------
        HvqbenchError
            The shapes differ, or *image* is not uint8 H×W×3.
        """
        check_image(image)
        if image.shape != reference.shape:
            raise HvqbenchError(
                f"{self.info.id}: the decoded image is {_size(image.shape)} but the original {_size(reference.shape)}; "
                "a codec must return the original's size"
            )
        return math.nan if reference.features is None else float(self._score(reference.features, image))

    def __call__(self, original: Image, decoded: Image) -> float:
        return self.score(self.reference(original), decoded)

    @abstractmethod
    def _features(self, image: Image) -> Any:
        """The original's part of the work."""

    @abstractmethod
    def _score(self, features: Any, image: Image) -> float:
        """The decoded image's part of the work."""


class SetMetric(ABC):
    """Base class of the metrics that compare two sets of images by the distribution of their patches' features."""

    descriptor: str
    """What determines the features, as a name: metrics that share it share their features."""

    def __init__(self, info: MetricInfo) -> None:
        self.info = info

    def prepare(self, device: str = "cpu") -> None:  # noqa: B027 - a metric may have nothing to load
        """Load weights onto *device*. Idempotent; called by the first :meth:`describe` if nobody else did."""

    @abstractmethod
    def patches(self, width: int, height: int) -> int:
        """How many patches an image of that size gives; loads nothing."""

    @abstractmethod
    def describe(self, image: Image) -> NDArray[np.float32]:
        """The features of the patches of *image* (uint8, H×W×3), one row for each."""

    @abstractmethod
    def distance(self, originals: NDArray[np.float32], decoded: NDArray[np.float32]) -> float:
        """The metric between the features of all patches of the originals and of the decoded images; loads nothing."""


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[1]}x{shape[0]}"
