"""The checks that one process can make of a codec. Each returns what it saw, or raises what is wrong."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np

from hvqbench.bench.worker import describe
from hvqbench.catalog import load_codec
from hvqbench.codec import Image, ImageEncoder
from hvqbench.doctor.pictures import inputs, photograph, photographs, sizes, synthetic
from hvqbench.doctor.subject import Failed, Skipped, Subject
from hvqbench.errors import HvqbenchError

RATE_TOLERANCE = 0.01
PSNR_TOLERANCE = 0.5
"""By how much (part of the bytes, dB) a ladder may go the wrong way from one point to the next."""
PLAIN = 0.1
"""A decoded photograph has at least so much of the original's standard deviation."""
BEST_CODER, WORST_CODER, ROUNDING = 0.98, 2.0, 512
"""Coded bits of a photograph lie between so many times the ideal, plus or minus so many for headers and rounding."""


def definition(s: Subject) -> str:
    points, name = s.codec.points, s.spec.point_name
    if not points and s.codec.unavailable():
        return "no ladder, and no way to run"
    if not points or not all(map(math.isfinite, points)) or len(set(points)) < len(points):
        raise Failed(f"the ladder is {list(points)}")
    low, high = s.codec.point_range
    if not low <= min(points) <= max(points) <= high:
        raise Failed(
            f"the ladder goes from {min(points):g} to {max(points):g}, point_range from {low:g} to {high:g}",
            "let the option point_range hold all points",
        )
    return f"points: {len(points)}, {name} {' to '.join(f'{end:g}' for end in s.ends)}"


def availability(s: Subject) -> str:
    reason = s.codec.unavailable()
    if reason is None:
        return "can run here"
    if not isinstance(reason, str) or not reason.strip() or "\n" in reason:
        raise Failed(f"unavailable() returned {reason!r}")
    if not re.search(r"[:;,.] \w", reason):
        raise Failed(f"unavailable() says why and not what to do: {reason!r}")
    return f"cannot run here, and says so: {reason}"


def preparation(s: Subject) -> str:
    for _ in range(2):
        s.note(f"prepare({s.device!r})")
        s.codec.prepare(s.device)
    return "twice"


def round_trip(s: Subject) -> str:
    points = sorted({*s.ends, s.codec.points[len(s.codec.points) // 2]})
    sizes = [len(s.round_trip(photograph(), point)[0].data) for point in points]
    at = f"{s.spec.point_name} {', '.join(f'{point:g}' for point in points)}"
    return f"a photograph of 256x192 at {at}: {', '.join(map(str, sizes))} bytes"


def picture(s: Subject) -> str:
    """The decoded photograph is nearer to the original than to anything that a slip makes of it."""
    image = photograph()
    trips = [s.round_trip(image, point) for point in s.ends]
    decoded = max(trips, key=lambda trip: len(trip[0].data))[1]
    if decoded.std((0, 1)).max() < PLAIN * image.std((0, 1)).max():
        raise Failed("what is decoded of a photograph is next to plain")
    variants = {
        "": image,
        " with red and blue exchanged": image[..., ::-1],
        " mirrored": image[:, ::-1],
        " upside down": image[::-1],
        " turned": image[::-1, ::-1],
        " in negative": 255 - image,
        **{f" shifted by {step} in axis {axis}": np.roll(image, step, axis) for axis in (0, 1) for step in (-1, 1)},
    }
    nearest = min(variants, key=lambda name: _mse(variants[name], decoded))
    if nearest:
        raise Failed(f"what is decoded is more like the original{nearest} than like the original")
    quality = f"{_psnr(image, decoded):.2f} dB PSNR" if _mse(image, decoded) else "equal"
    return f"nearest to the original: {quality} at the ladder's better end"


def all_sizes(s: Subject) -> str:
    return s.round_trips(sizes())


def all_contents(s: Subject) -> str:
    return s.round_trips(synthetic())


def all_inputs(s: Subject) -> str:
    return s.round_trips(inputs())


def ledger(s: Subject) -> str:
    for point in s.ends:
        stream, _ = s.round_trip(photograph(), point)
        counted, coded = sum(part.bytes for part in stream.ledger.values()), len(stream.data)
        if counted != coded:
            raise Failed(f"the ledger adds up to {counted} bytes, the bitstream has {coded} ({s.at(point)})")
        for name, part in stream.ledger.items():
            if not isinstance(part.bytes, int) or part.bytes < 0:
                raise Failed(f"stream {name!r} has {part.bytes} bytes ({s.at(point)})")
            if part.ideal_bits is not None and not (math.isfinite(part.ideal_bits) and part.ideal_bits >= 0):
                raise Failed(f"stream {name!r} has {part.ideal_bits} ideal bits ({s.at(point)})")
        ideal = stream.ideal_bits
        if ideal is not None and not BEST_CODER * ideal - ROUNDING <= 8 * coded <= WORST_CODER * ideal + ROUNDING:
            raise Failed(f"{8 * coded} coded bits for {ideal:.0f} ideal ones ({s.at(point)}) are not plausible")
    bits = "none tells its ideal bits" if ideal is None else f"{8 * coded} coded for {ideal:.0f} ideal bits"
    return f"{' + '.join(stream.ledger)}; {bits}"


def repeatable(s: Subject) -> str:
    """Coding something else between must not show, nor must another object of the same codec."""
    photo, other = photographs()
    point = s.ends[0]
    first = s.encode(photo, point).data
    noise = s.encode(other, s.ends[-1], "another photograph").data
    if s.encode(photo, point).data != first:
        raise Failed(f"the photograph was encoded twice ({s.at(point)}), to different bytes")
    if s.spec.protocol.stochastic:
        return "two encodes agree; decodes may differ (declared in [protocol])"
    digest = s.codec.digest(first, s.decode(first))
    s.decode(noise, "another photograph")
    if s.codec.digest(first, s.decode(first)) != digest:
        raise Failed(f"one bitstream was decoded twice ({s.at(point)}), with different digests")
    return "two encodes agree, and two decodes"


def digest(s: Subject) -> str:
    found = []
    for what, image in zip(("a photograph", "another photograph"), photographs(), strict=True):
        stream, decoded = s.round_trip(image, s.ends[-1], what)
        value = s.codec.digest(stream.data, decoded)
        if not isinstance(value, str) or not value:
            raise Failed(f"digest() returned {value!r}")
        if stream.digest is not None and stream.digest != value:
            raise Failed("the encoder declares another digest than the decoded stream has")
        found.append(value)
    if found[0] == found[1]:
        raise Failed("two photographs have one digest, which then tells nothing")
    return "none is declared: a run decodes to know it" if stream.digest is None else "what the encoder declares holds"


def points(s: Subject) -> str:
    """Negative and unknown points are refused, and none is rounded in silence."""
    image, (low, high), name = photograph()[:64, :64], s.codec.point_range, s.spec.point_name
    wrong = [min(-1.0, low - 1)]
    if not s.codec.has_weight:
        wrong.append(high + max(1000.0, 10 * (high - low)))
    for point in wrong:
        s.note(f"encoding {s.at(point)}, which does not exist")
        try:
            s.codec.encode(image.copy(), point)
        except HvqbenchError:
            continue
        except Exception as error:  # an adapter's own, of any kind
            raise Failed(f"{name} {point:g} ends in {describe(error)}") from None
        raise Failed(f"{name} {point:g} is taken, though the points go from {low:g} to {high:g}")
    detail = f"{name} {' and '.join(f'{point:g}' for point in wrong)} refused"
    if s.codec.has_weight or not all(map(float.is_integer, s.codec.points)):
        return detail
    # A coarse quantiser may give a half the bytes of its neighbour here and there, but not wherever they differ.
    rounded = []
    for point in sorted(s.codec.points)[1::2]:
        try:
            between = s.encode(image, point - 0.5).data
        except HvqbenchError:
            return f"{detail}, {point - 0.5:g} too"
        neighbours = [s.encode(image, end).data for end in (point - 1, point)]
        if neighbours[0] != neighbours[1]:
            rounded.append(between in neighbours)
    if rounded and all(rounded):
        raise Failed(f"{name} {point - 0.5:g} is taken for an integer without a word")
    return detail


def ladder(s: Subject) -> str:
    steps = sorted(s.codec.points)
    if len(steps) < 2:
        raise Skipped("the ladder has one point only")
    trips = [s.round_trip(photograph(), point) for point in steps]
    rates = [len(stream.data) for stream, _ in trips]
    quality = [_psnr(photograph(), decoded) for _, decoded in trips]
    if rates[0] == rates[-1]:
        raise Failed(f"both ends of the ladder give {rates[0]} bytes")
    up = 1 if rates[-1] > rates[0] else -1
    for (a, b), (rate, rate_after), (psnr, psnr_after) in zip(
        pairwise(steps), pairwise(rates), pairwise(quality), strict=True
    ):
        between = f"from {s.spec.point_name} {a:g} to {b:g}"
        if up * (rate_after - rate) < -RATE_TOLERANCE * max(rate, rate_after):
            raise Failed(f"{between} the rate goes the wrong way: {rate} to {rate_after} bytes")
        if up * (psnr_after - psnr) < -PSNR_TOLERANCE:
            raise Failed(f"{between} the PSNR goes the wrong way: {psnr:.2f} to {psnr_after:.2f} dB")
    bpp = sorted(8 * rate / photograph()[..., 0].size for rate in rates)
    return f"{bpp[0]:.3f} to {bpp[-1]:.3f} bpp, {min(quality):.2f} to {max(quality):.2f} dB PSNR"


def encoder(s: Subject) -> str:
    s.note("encoder()")
    found = s.codec.encoder(photograph().copy())
    if not isinstance(found, ImageEncoder):
        raise Failed(f"encoder() returns {type(found).__name__}, not ImageEncoder")
    for variant in ("", *found.variants):
        for point in s.ends:
            what = f"variant {variant!r} {s.at(point)}" if variant else f"encoder() {s.at(point)}"
            s.note(what)
            stream = found.encode(point, variant)
            if not variant and stream.data != s.encode(photograph(), point).data:
                raise Failed(f"{what} gives other bytes than encode()")
            if variant and s.decode(stream.data).shape != photograph().shape:
                raise Failed(f"{what} makes a stream that decodes to another size")
    return "agrees with encode()" + "".join(f"; {variant}" for variant in found.variants)


def fingerprint(s: Subject) -> str:
    value = s.codec.fingerprint
    if not isinstance(value, str) or len(value) < 16 or load_codec(s.source).fingerprint != value:
        raise Failed("another object of the same codec has another fingerprint")
    seen, same = 0, []
    for name, option in s.spec.options.items():
        for other in _others(option):
            options = {**s.spec.options, name: other}
            try:
                changed = type(s.codec)(replace(s.spec, options=options)).fingerprint
            except Exception:  # an adapter that takes no other value, or misses a file, cannot code under it either
                continue
            seen += 1
            if changed == value:
                same.append(name)
    if same:
        raise Failed(f"the option {same[0]!r} changed and the fingerprint did not")
    return f"stable; {seen} changes of an option show" if seen else "stable; no option can be changed"


def _others(value: Any) -> list[Any]:
    """Other values of an option's kind."""
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int | float):
        return [value + 1]
    if isinstance(value, str):
        return [f"{value}x"]
    if isinstance(value, dict):
        return [{**value, key: other} for key, part in value.items() for other in _others(part)]
    return [[*value, *value[-1:]]] if isinstance(value, list) else []


def _mse(a: Image, b: Image) -> float:
    return float(np.mean((a.astype(np.float64) - b) ** 2))


def _psnr(a: Image, b: Image) -> float:
    return 10 * math.log10(255**2 / max(_mse(a, b), 1e-6))


CHECKS: dict[str, tuple[Callable[[Subject], str], str]] = {
    "definition": (definition, "list each operating point once, as a finite number"),
    "availability": (availability, "return None, or one line like 'x.pt is missing: download it from https://...'"),
    "preparation": (
        preparation,
        "let prepare() load once and return at once after that, and unavailable() tell before",
    ),
    "round-trip": (round_trip, "see 'The contract' in docs/codecs.md"),
    "picture": (picture, "check the order of channels and rows, and which side padding is cut from"),
    "sizes": (all_sizes, "pad what the codec cannot take, keep the size in the bytes, and cut the padding off"),
    "contents": (all_contents, "code images without and full of detail too"),
    "inputs": (all_inputs, "take uint8 HxWx3 whatever it shows, and give HxWx3 back; grey is repeated three times"),
    "ledger": (ledger, "let the ledger name every byte once; ideal bits are bits of the streams that are coded"),
    "repeatable": (repeatable, "fix seeds, threads and algorithms, and keep nothing from one image to the next"),
    "digest": (digest, "hash what the bytes determine exactly, alike in encoder and decoder"),
    "points": (points, "raise HvqbenchError for points that do not exist, and name their ends as option point_range"),
    "ladder": (ladder, "order the points by quality, or leave out those that bring nothing"),
    "encoder": (encoder, "let encoder(image).encode(point) do what encode(image, point) does"),
    "fingerprint": (fingerprint, "build the fingerprint from super().fingerprint, and only add to it"),
}
"""Name: the check, and what to do where it fails, unless it says so itself."""

BEFORE_PREPARATION = ("definition", "availability")
ESSENTIAL = ("definition", "availability", "preparation", "round-trip")
"""Without these no other check can be made."""
