"""The worker's side: a codec in a process of its own, which may die of it."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from hvqbench.bench.worker import describe
from hvqbench.codec import Image, image_digest
from hvqbench.doctor.checks import BEFORE_PREPARATION, CHECKS
from hvqbench.doctor.subject import Failed, Finding, Skipped, Subject
from hvqbench.errors import BitstreamError

MEMORY_LIMIT = 8 << 30
"""Bytes that decoding a damaged stream may take: one that claims to be huge must not bring the machine down."""


class CheckRunner:
    """What the process answers: to the name of a check its :class:`Finding`, and to a few other questions."""

    def __init__(self) -> None:
        self._subject: Subject | None = None
        self._prepared = False

    def __call__(self, question: str, source: str, device: str, notes: Path, *arguments: Any) -> Any:
        if question in CHECKS:
            return self._check(question, source, device, notes)
        prepare = question != "unavailable"
        return getattr(self, question)(self._ready(source, device, notes, prepare), *arguments)

    def _check(self, name: str, source: str, device: str, notes: Path) -> Finding:
        check, remedy = CHECKS[name]
        notes.write_text("", encoding="utf-8")
        try:
            subject = self._ready(source, device, notes, prepare=name not in BEFORE_PREPARATION)
            return Finding(name, "ok", check(subject))
        except Failed as failure:
            return Finding(name, "failed", str(failure), failure.remedy or remedy)
        except Skipped as skip:
            return Finding(name, "skipped", str(skip))
        except Exception as error:  # an adapter's own, of any kind
            step = notes.read_text(encoding="utf-8")
            return Finding(name, "failed", f"{step}: {describe(error)}" if step else describe(error), remedy)

    def _ready(self, source: str, device: str, notes: Path, prepare: bool = True) -> Subject:
        if self._subject is None:
            self._subject = Subject(source, device, lambda step: notes.write_text(step, encoding="utf-8"))
        if prepare and not self._prepared:
            self._subject.note(f"prepare({device!r})")
            self._subject.codec.prepare(device)
            self._prepared = True
        return self._subject

    def unavailable(self, subject: Subject) -> str | None:
        return subject.codec.unavailable()

    def coded(self, subject: Subject, image: Image, point: float) -> tuple[bytes, str, str]:
        """The bytes of *image*, what the encoder's process says their digest is, and the codec's fingerprint."""
        stream = subject.encode(image, point)
        digest = stream.digest or subject.codec.digest(stream.data, subject.decode(stream.data))
        return stream.data, digest, subject.codec.fingerprint

    def decoded(self, subject: Subject, data: bytes) -> str:
        """The digest after decoding."""
        return subject.codec.digest(data, subject.decode(data))

    def damaged(self, subject: Subject, data: bytes) -> tuple[str, str]:
        """What becomes of a damaged stream: ``refused``, ``decoded`` (and the sha256), or ``wrong`` (and how)."""
        limit_memory(subject.device)
        try:
            return "decoded", image_digest(subject.decode(data, "a damaged stream"))
        except BitstreamError:
            return "refused", ""
        except Failed as failure:
            return "wrong", str(failure)
        except MemoryError:
            return "wrong", f"it takes more than {MEMORY_LIMIT >> 30} GiB of memory"
        except Exception as error:  # an adapter's own, of any kind
            return "wrong", describe(error)


def limit_memory(device: str) -> None:
    """For this process and those that it starts; CUDA reserves more addresses than there is memory, and stays free."""
    if device != "cpu":
        return
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        used = pages * resource.getpagesize()
        soft, hard = resource.getrlimit(resource.RLIMIT_AS)
        if soft == resource.RLIM_INFINITY:
            resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY_LIMIT, hard))
