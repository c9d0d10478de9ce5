"""The examiner's side: which checks, in which order, and those that need more than one process."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hvqbench.catalog import load_spec
from hvqbench.codec import CodecSpec
from hvqbench.doctor.checks import CHECKS, ESSENTIAL
from hvqbench.doctor.codec_process import CodecProcess
from hvqbench.doctor.pictures import photograph
from hvqbench.doctor.subject import Failed, Finding
from hvqbench.errors import HvqbenchError, closest
from hvqbench.scratch import scratch_folder

TIMEOUT_S = 300.0
"""Seconds that one encode or decode of a small image may take."""
DEATHS = 3
"""After so many crashes or hangs no further damaged stream is tried."""


@dataclass(frozen=True)
class Examination:
    """What was found of one codec.

    Parameters
    ----------
    unavailable
        Why it cannot run here and what to do; empty if it can.
    """

    codec: str
    findings: tuple[Finding, ...]
    unavailable: str = ""

    def count(self, status: str) -> int:
        """How many findings are ``ok``, ``failed`` or ``skipped``."""
        return sum(finding.status == status for finding in self.findings)


def examine(
    source: str,
    *,
    device: str = "cpu",
    checks: Sequence[str] | None = None,
    timeout_s: float = TIMEOUT_S,
    watch: Callable[[Finding], None] | None = None,
) -> Examination:
    """Put a codec through *checks*.

    Parameters
    ----------
    source
        A codec's id, or the path of a ``codec.toml``.
    checks
        Names of :data:`CHECK_NAMES`, by default all; those without which no other can be made are always made.
    timeout_s
        Seconds for each encode and each decode, after which a codec counts as hanging.
    watch
        Called with each finding as soon as there is one.

    Raises
    ------
    HvqbenchError
        There is no such codec or check, or the ``codec.toml`` cannot be read.
    """
    wanted = select_checks(checks)
    spec = load_spec(source)
    findings: list[Finding] = []
    with scratch_folder() as folder:
        processes = [CodecProcess(source, device, timeout_s, folder / name) for name in ("first", "second")]
        lacking = ""
        try:
            for name in wanted:
                if lacking:
                    finding = Finding(name, "skipped", f"there is nothing to check before {lacking} is well")
                elif name in CHECKS:
                    finding = processes[0].check(name)
                else:
                    finding = _with_two(name, processes[0], processes[1], spec)
                findings.append(finding)
                if watch:
                    watch(finding)
                if name in ESSENTIAL and finding.status == "failed":
                    lacking = lacking or name
                if name == "availability" and not lacking and (reason := processes[0].ask("unavailable")):
                    return Examination(spec.id, tuple(findings), reason)
        finally:
            for process in processes:
                process.close()
    return Examination(spec.id, tuple(findings))


def select_checks(checks: Sequence[str] | None) -> list[str]:
    """*checks*, by default all, and those without which no other can be made; raises if there is no such check."""
    for name in checks or ():
        if name not in CHECK_NAMES:
            raise HvqbenchError(
                f"unknown check {name!r}: {closest(name, CHECK_NAMES)}they are {', '.join(CHECK_NAMES)}"
            )
    return [name for name in CHECK_NAMES if checks is None or name in checks or name in ESSENTIAL]


def _with_two(name: str, first: CodecProcess, second: CodecProcess, spec: CodecSpec) -> Finding:
    check, remedy = CHECKS_OF_TWO[name]
    try:
        return Finding(name, "ok", check(first, second, spec))
    except Failed as failure:
        return Finding(name, "failed", str(failure), failure.remedy or remedy)


def other_process(first: CodecProcess, second: CodecProcess, spec: CodecSpec) -> str:
    """A process that never saw the image decodes it to the same, and encodes it to the same."""
    point = spec.points[0]
    data, digest, fingerprint = first.ask("coded", photograph(), point)
    decoded = second.ask("decoded", data)
    if decoded != digest and not spec.protocol.stochastic:
        raise Failed("a process that did not encode the stream decodes it to another digest")
    again, _, other = second.ask("coded", photograph(), point)
    if again != data:
        raise Failed(f"another process encodes the photograph to other bytes ({len(data)} and {len(again)})")
    if other != fingerprint:
        raise Failed("another process computes another fingerprint", "build it from what the codec is, in fixed order")
    return "same digest, bytes and fingerprint" + "; decodes may differ" * spec.protocol.stochastic


def damage(first: CodecProcess, second: CodecProcess, spec: CodecSpec) -> str:
    """Truncated, altered and foreign streams: refused, or at least decoded to some image."""
    data = first.ask("coded", photograph()[:96, :128], spec.points[0])[0]
    whole = second.ask("damaged", data)
    outcomes: Counter[str] = Counter()
    wrong, deaths = {}, 0
    streams = damages(data)
    for name, stream in streams.items():
        try:
            outcome, detail = second.ask("damaged", stream)
        except Failed as failure:
            outcome, detail, deaths = "wrong", str(failure), deaths + 1
        if outcome == "decoded" and not stream:
            outcome, detail = "wrong", "it decodes, so something else than the bytes is decoded"
        if outcome == "wrong":
            wrong[name] = detail
        elif outcome == "decoded":
            outcome = "the same pixels" if (outcome, detail) == whole else "other pixels"
        outcomes[outcome] += 1
        if deaths == DEATHS:
            break
    if wrong:
        name, detail = next(iter(wrong.items()))
        raise Failed(f"{len(wrong)} of {outcomes.total()} damaged streams are no BitstreamError; {name}: {detail}")
    detail = f"{outcomes['refused']} of {len(streams)} refused"
    others = [f"{outcomes[what]} decoded to {what}" for what in ("other pixels", "the same pixels") if outcomes[what]]
    return ", ".join([detail, *others])


def damages(data: bytes) -> dict[str, bytes]:
    """Streams made of *data*: cut off, with one bit flipped, and foreign ones. The same each time."""
    size = len(data)
    streams = {f"the first {keep} bytes": data[:keep] for keep in (0, 1, 3, size // 4, size // 2, size - 1)}
    streams["one byte more"] = data + b"\0"
    dice = random.Random(0)
    header, rest = range(min(size, 8)), range(8, size)
    for place in [*header, *sorted(dice.sample(rest, min(12, len(rest))))]:
        flipped = data[place] ^ 1 << dice.randrange(8)
        streams[f"a flipped bit in byte {place}"] = data[:place] + bytes([flipped]) + data[place + 1 :]
    streams["a PNG signature"] = b"\x89PNG\r\n\x1a\n" + bytes(64)
    streams["1000 zeros"] = bytes(1000)
    streams["1000 random bytes"] = dice.randbytes(1000)
    return streams


CHECKS_OF_TWO: dict[str, tuple[Callable[[CodecProcess, CodecProcess, CodecSpec], str], str]] = {
    "other-process": (
        other_process,
        "keep nothing but the bytes between encode() and decode(), and fix what is random",
    ),
    "damage": (damage, "check magic, length and a checksum, and raise hvqbench.errors.BitstreamError"),
}
"""Name: a check that needs two processes, and what to do where it fails."""
CHECK_NAMES = (*CHECKS, *CHECKS_OF_TWO)
"""All checks, in their order."""
