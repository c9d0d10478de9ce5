"""The processes that do the work: encoder, decoder, a judge for metrics, a describer for those of sets, a memory meter.

Each is a fresh interpreter that reads pickled requests from its standard input and answers on its standard output until
the input ends. (Not :mod:`multiprocessing`, whose children run the caller's main script again, so that ``hvqbench.run``
would only work below ``if __name__ == "__main__"``.)
"""

from __future__ import annotations

import os
import pickle
import sys
import traceback
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from hvqbench.bench.task import Decoded, Encoded
from hvqbench.catalog import load_codec, load_object
from hvqbench.codec import Bitstream, Codec, Image, image_digest
from hvqbench.errors import HvqbenchError, UnavailableError
from hvqbench.lineage import adopt_orphans
from hvqbench.watchman import watched_by_parent

if TYPE_CHECKING:
    from hvqbench.data import ImageFile


class Codecs:
    """Prepared codecs by name. One that cannot be prepared says so each time, but tries only once."""

    def __init__(self) -> None:
        self._ready: dict[tuple[str, str], Codec | Exception] = {}

    def __call__(self, source: str, device: str) -> Codec:
        if (source, device) not in self._ready:
            self._ready[source, device] = self._prepare(source, device)
        codec = self._ready[source, device]
        if isinstance(codec, Exception):
            raise codec
        return codec

    def _prepare(self, source: str, device: str) -> Codec | Exception:
        try:
            codec = load_codec(source)
            codec.prepare(device)
        except Exception as error:  # an adapter's own, of any kind
            return error
        return codec


class Encoder:
    """Images to bitstreams."""

    def __init__(self) -> None:
        self._codecs = Codecs()
        self._warm: set[Codec] = set()
        self._image: tuple[ImageFile, Image] | None = None

    def __call__(self, source: str, device: str, image: ImageFile | None, point: float) -> Encoded | None:
        """The bitstream of *image*; without an image, only load the codec."""
        codec = self._codecs(source, device)
        if image is None:
            return None
        if self._image is None or self._image[0] != image:
            self._image = image, image.read()
        if codec not in self._warm:  # the first time, a library may still be looking for its plug-ins or its kernels
            codec.encode(self._image[1].copy(), point)
            self._warm.add(codec)
        pixels = self._image[1].copy()  # the codec's own: what it does to them must not reach the next one
        start = perf_counter()
        stream = codec.encode(pixels, point)
        seconds = perf_counter() - start
        return encoded(codec, stream, seconds)


class Decoder:
    """Bitstreams to images. It never sees an original."""

    def __init__(self) -> None:
        self._codecs = Codecs()
        self._warm: set[Codec] = set()

    def __call__(self, source: str, device: str, data: bytes | None) -> Decoded | None:
        """What *data* decodes to; without data, only load the codec."""
        codec = self._codecs(source, device)
        if data is None:
            return None
        if codec not in self._warm:
            codec.decode(data)
            self._warm.add(codec)
        start = perf_counter()
        image = codec.decode(data)
        seconds = perf_counter() - start
        return decoded(codec, data, image, seconds)


def encoded(codec: Codec, stream: Bitstream, seconds: float) -> Encoded:
    """What an encoder answers: if it does not know what its bytes decode to, it decodes them."""
    digest = stream.digest or codec.digest(stream.data, codec.decode(stream.data))
    sizes = {name: part.bytes for name, part in stream.ledger.items()}
    return Encoded(stream.data, sizes, stream.ideal_bits, digest, seconds)


def decoded(codec: Codec, data: bytes, image: Image, seconds: float) -> Decoded:
    """What a decoder answers. Raises if *image* is no image."""
    if not (isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3):
        raise HvqbenchError(f"{codec.id}: decode() must return a uint8 array of HxWx3; correct the adapter")
    return Decoded(image, image_digest(image), codec.digest(data, image), seconds)


class Judge:
    """Metrics. What a metric computes of an original is computed once, and kept while that image is the one at work."""

    def __init__(self) -> None:
        self._metrics: dict[str, Any] = {}
        self._image: ImageFile | None = None
        self._original: Image | None = None
        self._references: dict[str, Any] = {}
        self._scores: dict[tuple[str, str], float] = {}

    def __call__(
        self, image: ImageFile | None, decoded: Image | None, metrics: tuple[str, ...]
    ) -> dict[str, float] | dict[str, str]:
        """The values of *metrics*; without images, the metrics that cannot be had and why."""
        if image is None or decoded is None:
            return {name: reason for name in metrics if (reason := self._prepare(name))}
        if image != self._image:
            self._image, self._original, self._references, self._scores = image, None, {}, {}
        # Codecs that differ in their entropy coding only restore the same pixels: those are judged once.
        digest = image_digest(decoded)
        for name in metrics:
            if (name, digest) not in self._scores:
                self._scores[name, digest] = self._score(name, decoded)
        return {name: self._scores[name, digest] for name in metrics}

    def _score(self, name: str, decoded: Image) -> float:
        assert self._image is not None
        if self._original is None:
            self._original = self._image.read()
        if reason := self._prepare(name):
            raise UnavailableError(f"metric {name}: {reason}")
        if name not in self._references:
            self._references[name] = self._metrics[name].reference(self._original)
        return float(self._metrics[name].score(self._references[name], decoded))

    def _prepare(self, name: str) -> str:
        from hvqbench.metrics import load_metric

        try:
            if name not in self._metrics:
                metric = load_metric(name)
                metric.prepare()
                self._metrics[name] = metric
        except Exception as error:  # a plug-in's own, of any kind
            return describe(error)
        return ""


class Describer:
    """Features of images, for the metrics of whole sets."""

    def __init__(self) -> None:
        self._metrics: dict[tuple[str, str], Any] = {}

    def __call__(self, metric: str, device: str, image: ImageFile | Image | None) -> Any:
        """The features of *image* by *metric*; without an image, why the metric cannot be had, or nothing."""
        if image is None:
            try:
                self._metric(metric, device)
            except Exception as error:  # a plug-in's own, of any kind
                return describe(error)
            return ""
        pixels = image if isinstance(image, np.ndarray) else image.read()
        return self._metric(metric, device).describe(pixels)

    def _metric(self, name: str, device: str) -> Any:
        from hvqbench.metrics import load_set_metric

        if (name, device) not in self._metrics:
            metric = load_set_metric(name)
            metric.prepare(device)
            self._metrics[name, device] = metric
        return self._metrics[name, device]


class Meter:
    """Memory and work: of a process that holds one codec, and does nothing but encode, or nothing but decode."""

    def __init__(self) -> None:
        self._codecs = Codecs()

    def __call__(self, source: str, device: str, item: ImageFile | bytes, point: float) -> dict[str, float]:
        """Of coding an image, or of decoding a bitstream: what :mod:`~hvqbench.bench.complexity` counts, and memory."""
        from hvqbench.bench.complexity import count_parameters, count_work
        from hvqbench.bench.machine import peak_memory

        codec = self._codecs(source, device)
        call = partial(codec.decode, item) if isinstance(item, bytes) else partial(codec.encode, item.read(), point)
        work = count_work(call, device)  # which warms up for what follows
        return work | {"parameters": count_parameters()} | peak_memory(call, device)


def main(handler: str) -> None:
    """Answer requests until there are no more, each with what the class *handler* (``module:Class``) makes of it."""
    # Requests and answers move to descriptors of their own, so that no library and no child reads or prints into them.
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    adopt_orphans()
    watched_by_parent()
    own = os.getpid()
    handle = load_object(handler)()
    while True:
        try:
            request = pickle.load(requests)
        except EOFError:
            return
        try:
            answer = (True, handle(*request))
        except Exception as error:  # becomes the reason of a failed row
            answer = (False, describe(error))
        if os.getpid() != own:
            os._exit(0)  # a fork that a codec forgot to end: two answers to one question would be the next one's
        try:
            pickle.dump(answer, answers, pickle.HIGHEST_PROTOCOL)
            answers.flush()
        except BrokenPipeError:
            sys.exit(0)  # nobody waits for it any more


def describe(error: Exception) -> str:
    """One line for *error*: a user error as it is, any other with its type and the place where it was raised."""
    message = " ".join(str(error).split())
    if isinstance(error, HvqbenchError):
        return message
    if isinstance(error, MemoryError) or "allocate memory" in message or "out of memory" in message:
        return f"out of memory ({message[:120]}); run fewer --jobs or fewer metrics, or use a machine with more"
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({os.path.basename(frames[-1].filename)}, line {frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {message}{place}"
