"""Which operating point lands at this rate, or at this quality? One search for every codec.

    target = Target.parse("bpp=0.03")               # or "lpips-alex=0.2"
    found = find_point(codec, image, target)
    found.trial.point, found.trial.bpp, found.trial.stream.data

Rate and quality are step functions of the point and not quite monotone: indices jump one by one, a range coder writes
whole words, a quantiser's decisions flip. So nothing is fitted. The search encodes, keeps all that it has seen, and
looks between neighbours of which one meets the target and the other does not, until the target is met closely, or no
point is left between any such two, or :data:`ENCODES` streams were made. A rate that the codec jumps over, as with a
residual tokenizer where one stage more is sent, is looked for among the variants of its encoder.

A codec is searched over its :attr:`Codec.point_range`: along a logarithm if its points are weights of the rate, as L is
(:attr:`Codec.has_weight`), else evenly, and at integers only if its ladder has only integers.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise

from hvqbench.codec import Bitstream, Codec, Image
from hvqbench.errors import HvqbenchError, UnavailableError
from hvqbench.metrics import Metric, load_metric, metric_id, metric_info

ENCODES = 24
"""Streams that a search of one encoder makes at most."""
CLOSE = 0.25
"""Part of the tolerance within which a search is content: it costs few encodes more, and equal rates are more equal."""
LARGEST_WEIGHT = 1e6
"""In place of infinity: a bit outweighs every distance."""
DIGITS = 4
"""Of a point that is found, so that it can be given again as ``--point``."""


class UnreachableError(HvqbenchError):
    """Every point of this codec misses the target on this image.

    Parameters
    ----------
    nearest
        The stream that comes nearest.
    encodes
        Streams that the search made.
    """

    def __init__(self, message: str, nearest: Trial, encodes: int) -> None:
        super().__init__(message)
        self.nearest, self.encodes = nearest, encodes


@dataclass(frozen=True)
class Target:
    """What a stream is to have.

    Parameters
    ----------
    quantity
        ``bpp``, or a metric's id.
    value
        Bits per pixel, to be met as nearly as can be; or a quality, to be met or exceeded with the fewest bytes.
    tolerance
        Relative, of the rate: how far a stream may be from ``bpp``. The search goes on to a quarter of it
        (:data:`CLOSE`), and for a quality to two streams that near, of which only one is good enough.

    Raises
    ------
    HvqbenchError
        The metric is unknown, or the value is one that the quantity never has.
    """

    quantity: str
    value: float
    tolerance: float = 0.02

    def __post_init__(self) -> None:
        low, high = (0.0, math.inf) if self.is_rate else metric_info(self.quantity).range
        if not (low <= self.value <= high and math.isfinite(self.value)) or (self.is_rate and self.value == 0):
            limits = f"from {low:g} to {high:g}".replace("to inf", "up")
            raise HvqbenchError(f"{self.quantity} cannot be {self.value:g}: name a number {limits}")

    @classmethod
    def parse(cls, text: str) -> Target:
        """``bpp=0.03`` or ``lpips-alex=0.2``; ``lpips`` is short for that, as everywhere (:func:`metric_id`)."""
        name, _, number = (part.strip() for part in text.partition("="))
        try:
            value = float(number)
        except ValueError:
            raise HvqbenchError(f"{text!r} is not a target: write a metric and a number, like lpips-alex=0.2") from None
        return cls(name if name == "bpp" else metric_id(name), value)

    @classmethod
    def of_options(cls, bpp: float | None, quality: str | None) -> Target | None:
        """The target that ``--bpp`` or ``--quality`` names; None where neither is given.

        Raises
        ------
        HvqbenchError
            Both are given.
        """
        if bpp is not None and quality is not None:
            raise HvqbenchError("--bpp and --quality each name a target: give one of them")
        if bpp is not None:
            return cls("bpp", bpp)
        return None if quality is None else cls.parse(quality)

    @property
    def is_rate(self) -> bool:
        return self.quantity == "bpp"

    def gap(self, value: float) -> float:
        """How far *value* is on the wrong side: positive for more bits than wanted, or less quality."""
        if self.is_rate:
            return math.log(value / self.value)
        return self.value - value if metric_info(self.quantity).higher_is_better else value - self.value


@dataclass(frozen=True)
class Trial:
    """A stream that the search made.

    Parameters
    ----------
    value
        What the target names: the stream's bits per pixel, or the metric of what it decodes to.
    gap
        :meth:`Target.gap` of it.
    """

    point: float
    stream: Bitstream
    bpp: float
    value: float
    gap: float


@dataclass(frozen=True)
class Found:
    """The best of all trials.

    Parameters
    ----------
    reached
        False for a rate that the codec jumps over on this image: ``trial`` is the nearest that was seen.
    encodes
        Streams that the search made.
    encoder
        Which variant of :class:`~hvqbench.codec.ImageEncoder` made it; empty for the codec's own choice.
    """

    trial: Trial
    reached: bool
    encodes: int
    encoder: str = ""


def find_point(codec: Codec, image: Image, target: Target, watch: Callable[[Trial], None] | None = None) -> Found:
    """The point at which *codec* codes *image* (uint8, H×W×3) as *target* says.

    Of a rate, the nearest stream that was seen, of two equally near ones the smaller; of a quality, the smallest
    stream that is good enough.

    Parameters
    ----------
    codec
        Prepared.
    watch
        Called after each trial.

    Raises
    ------
    UnreachableError
        All points miss the target on the same side; the message says what can be reached. (A quality that all points
        exceed is no such case: the smallest stream has it.)
    """
    encoder = codec.encoder(image)
    search = _Search(codec, image, target, watch)
    found = search.run(encoder.own)
    for variant, encode in encoder.variants.items():
        if found.reached:
            break
        search.trials.clear()
        with suppress(UnreachableError):
            other = replace(search.run(encode), encoder=variant)
            found = min(found, other, key=lambda found: abs(found.trial.gap))
    return replace(found, encodes=search.encodes)


class _Line:
    """A codec's points, placed so that rate and quality change about evenly along the line."""

    def __init__(self, codec: Codec) -> None:
        self.low, self.high = codec.point_range
        self.is_logarithmic = codec.has_weight
        self.is_integer = not codec.has_weight and all(float(point).is_integer() for point in codec.points)
        self.unit = min((point for point in codec.points if point > 0), default=1.0)
        if self.is_logarithmic:
            self.high = LARGEST_WEIGHT

    def between(self, a: float, b: float, share: float) -> float | None:
        """The point at *share* of the way from *a* to *b*; None if no point lies strictly between them."""
        if self.is_logarithmic:  # a logarithm that begins at 0, as L does
            x, y = (math.log1p((point - self.low) / self.unit) for point in (a, b))
            point = self.low + self.unit * math.expm1(x + share * (y - x))
            size = point - self.low + self.unit
        else:
            point, size = a + share * (b - a), self.high - self.low
        point = round(point, 0 if self.is_integer else DIGITS - 1 - math.floor(math.log10(size)))
        return point if a < point < b else None


class _Search:
    """What is known of one image under one codec."""

    def __init__(self, codec: Codec, image: Image, target: Target, watch: Callable[[Trial], None] | None) -> None:
        self.codec, self.target, self.watch = codec, target, watch
        self.line = _Line(codec)
        self.encodes = 0
        self.pixels = image.shape[0] * image.shape[1]
        self.trials: dict[float, Trial] = {}
        self.scores: dict[bytes, float] = {}
        if not target.is_rate:
            self.metric = _metric(target.quantity)
            self.reference = self.metric.reference(image)

    def run(self, encode: Callable[[float], Bitstream]) -> Found:
        """Search among the points of one encoder."""
        self.encode = encode
        first, last = self.probe(min(self.codec.points)), self.probe(max(self.codec.points))
        ends = sorted([(abs(first.gap), self.line.low), (abs(last.gap), self.line.high)])
        # Beyond the ladder, first on the side that came nearer; within it only if everything fell on the wrong side.
        for point in [*(end for _, end in ends), *self.codec.points]:
            if self.is_settled() or (self.probe(point).gap <= 0 and not self.target.is_rate):
                break
        while (between := self.next_point()) is not None:
            self.probe(between)
        return self.found()

    def probe(self, point: float) -> Trial:
        if point not in self.trials:
            stream = self.encode(point)
            self.encodes += 1
            bpp = 8 * len(stream.data) / self.pixels
            value = bpp if self.target.is_rate else self._score(stream.data)
            self.trials[point] = Trial(point, stream, bpp, value, self.target.gap(value))
            if self.watch:
                self.watch(self.trials[point])
        return self.trials[point]

    def _score(self, data: bytes) -> float:
        if data not in self.scores:  # near points often give the same bytes
            self.scores[data] = self.metric.score(self.reference, self.codec.decode(data))
        if math.isnan(self.scores[data]):
            info = self.metric.info
            raise HvqbenchError(
                f"{info.id} is undefined below {info.minimum_side} pixels a side: ask for another metric"
            )
        return self.scores[data]

    def is_bracketed(self) -> bool:
        """Whether the target lies between streams that were made."""
        return len({trial.gap <= 0 for trial in self.trials.values()}) == 2

    def is_close(self) -> bool:
        """Whether a rate is met so nearly that the search may end."""
        return self.target.is_rate and abs(self.nearest().gap) <= CLOSE * self.target.tolerance

    def is_settled(self) -> bool:
        """Whether there is nothing to gain from points outside those that were tried."""
        return self.is_bracketed() or self.is_close() or len(self.trials) >= ENCODES

    def next_point(self) -> float | None:
        """Where to look next; None if nothing better is to be expected."""
        if self.is_close() or len(self.trials) >= ENCODES:
            return None
        for a, b in pairwise(sorted(self.trials.values(), key=lambda trial: trial.point)):
            sizes = sorted(len(trial.stream.data) for trial in (a, b))
            if (a.gap <= 0) == (b.gap <= 0) or sizes[1] - sizes[0] <= CLOSE * self.target.tolerance * sizes[0]:
                continue
            for share in (self._share(a, b), 0.5):
                if (point := self.line.between(a.point, b.point, share)) is not None:
                    return point
        return None

    def _share(self, a: Trial, b: Trial) -> float:
        """False position; every third time the middle, without which a step would be approached from one side only."""
        share = a.gap / (a.gap - b.gap)
        return 0.5 if len(self.trials) % 3 == 0 or not math.isfinite(share) else min(max(share, 0.1), 0.9)

    def nearest(self) -> Trial:
        return min(self.trials.values(), key=lambda trial: (abs(trial.value - self.target.value), trial.gap > 0))

    def found(self) -> Found:
        if self.target.is_rate:
            best = self.nearest()
            reached = abs(best.value / self.target.value - 1) <= self.target.tolerance
            possible = reached or self.is_bracketed()
        else:
            best = min(self.trials.values(), key=lambda trial: (trial.gap > 0, len(trial.stream.data), trial.gap))
            reached = possible = best.gap <= 0
        if not possible:
            raise self._unreachable()
        return Found(best, reached, self.encodes)

    def _unreachable(self) -> UnreachableError:
        ends = [pick(self.trials.values(), key=lambda trial: trial.value) for pick in (min, max)]
        name, quantity = self.codec.spec.point_name, self.target.quantity
        low, high = (f"{trial.value:.4g} ({name} {trial.point:g})" for trial in ends)
        reach = f"goes from {low} to {high}" if low != high else f"is always {low}"
        return UnreachableError(
            f"{self.codec.id} cannot reach {quantity} {self.target.value:g} on this image: its {quantity} {reach}; "
            "name a value that it reaches, or another codec",
            self.nearest(),
            self.encodes,
        )


@lru_cache(maxsize=1)
def _metric(name: str) -> Metric:
    """Kept for the next codec and the next image."""
    metric = load_metric(name)
    if problem := metric.unavailable():
        raise UnavailableError(f"metric {name} cannot be computed here: {problem}")
    return metric
