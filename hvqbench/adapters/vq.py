"""VQ codecs: any tokenizer with any index model, composed by the options of a ``codec.toml``.

Those options are :class:`hvqbench.vq.options.VQOptions`.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from hvqbench.codec import Bitstream, Codec, CodecSpec, Image, ImageEncoder
from hvqbench.errors import BitstreamError, HvqbenchError
from hvqbench.settings import read_settings
from hvqbench.timing import span
from hvqbench.vq.loading import is_own, load_tokenizer, tokenizer_files, tokenizer_libraries, tokenizer_unavailable
from hvqbench.vq.options import VQOptions

if TYPE_CHECKING:
    from torch import Tensor

    from hvqbench.vq.base import BaseTokenizer, Features
    from hvqbench.vq.choose import Choice
    from hvqbench.vq.container import Container
    from hvqbench.vq.layout import Layout
    from hvqbench.vq.models.base import IndexModel
    from hvqbench.vq.networks import Networks
    from hvqbench.vq.steering import Steering

OWN_MODE, FIXED_MODE, STATIC_MODE = 0, 1, 2
"""Index modes in the container: the codec's own index model, or another where that is shorter."""


class VQCodec(Codec):
    """A tokenizer, an index model, rate control by L, and the container around them.

    A point is L >= 0, or with ``point = "slices"`` the number of slices that are sent.
    """

    version: ClassVar[str] = "2"

    device = "cpu"
    max_pixels: int | None = None
    """A stream that claims a larger image is not decoded; by default the container's own limit holds alone."""
    steering: Steering | None = None
    """What is asked beside L of a codec with granularities (the option ``router``); set it before encoding."""
    _tokenizer: BaseTokenizer | None = None
    _models: dict[int, IndexModel]
    """By mode, the codec's own first."""
    _read: tuple[bytes, list[Tensor]] | None = None
    """The last stream that was decoded, and its maps."""

    def __init__(self, spec: CodecSpec) -> None:
        super().__init__(spec)
        self.options = read_settings(VQOptions, spec.options, f"{spec.folder / 'codec.toml'}: [options]")

    @property
    def point_range(self) -> tuple[float, float]:
        """L is a weight."""
        return (0.0, math.inf) if self.options.point == "weight" else super().point_range

    @property
    def declared_range(self) -> tuple[float, float] | None:
        return self.point_range if self.options.point == "weight" else None

    @property
    def has_granularities(self) -> bool:
        """Whether :attr:`steering` means anything to it."""
        return bool(self.options.router)

    @property
    def libraries(self) -> tuple[str, ...]:  # type: ignore[override]
        searches = ("lpips",) if "search" in self.spec.options else ()
        return ("torch", "constriction", *searches, *tokenizer_libraries(self.options.tokenizer))

    def unavailable(self) -> str | None:
        if reason := tokenizer_unavailable(self.options.tokenizer, self.spec.folder):
            return reason
        missing = [path for path in self._index_files if not path.is_file()]
        return f"weights {missing[0]} are missing; train them (docs/training.md) or fetch the file" if missing else None

    def files(self) -> list[Path]:
        return [*tokenizer_files(self.options.tokenizer, self.spec.folder), *self._index_files]

    @property
    def ingredients(self) -> dict[str, Any]:
        """As of every codec; of a tokenizer that is a class, its weights too, wherever it has them from."""
        own = {"tokenizer": self.tokenizer.digest} if is_own(self.options.tokenizer) else {}
        return super().ingredients | own

    def prepare(self, device: str = "cpu") -> None:
        import torch

        if self._tokenizer is not None and device == self.device:
            return
        if reason := self.unavailable():
            raise HvqbenchError(f"{self.id}: {reason}")
        tokenizer = load_tokenizer(self.options.tokenizer, self.spec.folder)
        if self.options.router:
            from hvqbench.vq.granular import GranularTokenizer

            tokenizer = GranularTokenizer(tokenizer)
        self._models = self._index_models(tokenizer)
        self._tokenizer = tokenizer.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.device = device
        assert self.model_fingerprint  # reads the files now rather than while an image waits

    def encode(self, image: Image, point: float) -> Bitstream:
        return self.encoder(image).encode(point)

    def encoder(self, image: Image) -> ImageEncoder:
        """Encode one image at many points: features and nearest indices do not depend on L.

        Its own choice takes in the number of grids, where the rate jumps; each variant always sends the same number, or
        as many slices as one step of a ladder.
        """
        from hvqbench.vq.encoding import Encoding

        self.prepare(self.device)
        encoding = Encoding(image, self._networks, self._models, self.options, self.steering)

        def encode(levels: Sequence[int], slices: int | None, point: float, routes: int | None = None) -> Bitstream:
            try:
                mode, choice = encoding.choose(levels, slices, point, routes)
            except HvqbenchError as error:
                raise HvqbenchError(f"{self.id}: {error}") from None
            return self._bitstream(image, mode, choice)

        most, total, prefixes = encoding.most, encoding.slices, encoding.prefixes
        variants: dict[str, tuple[Sequence[int], int | None]] = {}
        if most > 1 and self.options.point == "weight":
            variants |= {f"{n} of {most} stages": ([n], total) for n in prefixes}
        variants |= {f"{n} of {total} slices": (range(most, most + 1), n) for _, n in self.options.ladder}
        named = {name: partial(encode, *sent) for name, sent in variants.items()}
        if self.options.router:  # a second pass may jump from a tree to quite another
            named |= {"one pass": partial(encode, prefixes, None, routes=1)}
        return ImageEncoder(partial(encode, prefixes, None), named)

    def decode(
        self, data: bytes, stages: int | None = None, complete: Literal["likeliest"] | int | None = None
    ) -> Image:
        """As :meth:`Codec.decode`; painted from the first *stages* grids of what was sent, from all by default.

        With *complete* the grids that are left out, or were not sent, are painted too: from the codewords that the
        index model expects there, the likeliest, or a sample of its probabilities with that seed. So are slices that
        were not sent, which a stream completes in its own way otherwise.
        """
        container = self._unpack(data)
        maps = self._maps(container, stages, complete)
        if stages is None and complete is None:
            self._read = data, maps
        return self._networks.paint(maps)[: container.height, : container.width]

    def digest(self, data: bytes, image: Image) -> str:
        """Sha256 of the indices: they are exact, while the last digit of the synthesis may differ between devices."""
        return _digest(self.decode_indices(data))

    def decode_indices(self, data: bytes) -> list[NDArray[np.int32]]:
        """The maps (h×w) of the grids that a stream holds: entropy decoding without synthesis.

        Of the stream that was decoded last they are those that were painted.
        """
        if self._read is None or self._read[0] != data:
            self._read = data, self._maps(self._unpack(data))
        return [symbols.int().numpy() for symbols in self._read[1]]

    def sent_slices(self, data: bytes) -> int | None:
        """How many slices a stream holds, if the decoder completes others; None if all are there."""
        return self._unpack(data).slices

    def features(self, image: Image) -> Features:
        """What the tokenizer makes of an image before quantization, edges replicated to multiples of its factor."""
        return self._networks.features(image)

    @property
    def tokenizer(self) -> BaseTokenizer:
        self.prepare(self.device)
        assert self._tokenizer is not None
        return self._tokenizer

    @property
    def index_model(self) -> IndexModel:
        """The codec's own index model; a file may use another where that is shorter."""
        self.prepare(self.device)
        return self._models[OWN_MODE]

    @cached_property
    def model_fingerprint(self) -> bytes:
        """Three bytes in every stream that bind it to this tokenizer and these index models."""
        from hvqbench.vq.container import FINGERPRINT_BYTES
        from hvqbench.vq.weights import sha256

        # Of a class it is the weights that count: a comment more in its source does not change what streams mean.
        own = is_own(self.options.tokenizer)
        parts = [self.tokenizer.digest] if own else []
        files = self._index_files if own else self.files()
        parts += [sha256(path) for path in files]
        text = " ".join([self.version, self.options.index_model, *parts])
        return hashlib.sha256(text.encode()).digest()[:FINGERPRINT_BYTES]

    def frequencies(self) -> Path | None:
        """The file of training-set counts, where the options name one."""
        option = "weights" if self.options.index_model in ("huffman", "static") else "frequencies"
        return self._path(option)

    def _index_models(self, tokenizer: BaseTokenizer) -> dict[int, IndexModel]:
        from hvqbench.vq.models import index_model_class
        from hvqbench.vq.models.static import Fixed, Static

        kind, weights, frequencies = self.options.index_model, self._path("weights"), self._path("frequencies")
        own = index_model_class(kind)
        if own.needs_weights and weights is None:
            raise HvqbenchError(
                f"{self.id}: index_model {kind!r} needs the option weights; name the file in codec.toml"
            )
        models: dict[int, IndexModel] = {OWN_MODE: own.load(weights, tokenizer)}
        if own is not Fixed:
            models[FIXED_MODE] = Fixed.load(None, tokenizer)
            if frequencies:
                models[STATIC_MODE] = Static.load(frequencies, tokenizer)
        return models

    @property
    def _networks(self) -> Networks:
        from hvqbench.vq.networks import Networks

        return Networks(self.tokenizer, self.device, self.options.tile, self.options.precision == "bfloat16")

    def _layout(self, height: int, width: int) -> Layout:
        from hvqbench.vq.layout import Layout

        return Layout.of(self.tokenizer, height, width)

    def _bitstream(self, image: Image, mode: int, choice: Choice) -> Bitstream:
        from hvqbench.vq.container import Container, pack

        height, width = image.shape[:2]
        with span("container"):
            prefix = choice.prefix
            cut = (prefix.slices, prefix.seed) if prefix else (None, None)
            content = Container(width, height, mode, choice.coded.payload, len(choice.maps), *cut)
            data = pack(content, self.model_fingerprint)
        ledger = choice.coded.ledger(len(data))
        return Bitstream(data, ledger, _digest([symbols.int().numpy() for symbols in choice.maps]))

    def _unpack(self, data: bytes) -> Container:
        from hvqbench.vq.container import unpack

        grids = len(self.tokenizer.grids)
        with span("container"):
            container = unpack(data, self.model_fingerprint, self.id)
        if container.mode not in self._models:
            raise BitstreamError(f"{self.id}: unknown index mode {container.mode}; decode it with a newer hvqbench")
        if container.stages > grids:
            raise BitstreamError(
                f"{self.id}: the header says {container.stages} stages, but the tokenizer has {grids}; encode it again"
            )
        if container.slices is not None:
            layout = self._layout(container.height, container.width).first(container.stages)
            if container.slices >= (total := self.index_model.slices(layout)):
                raise BitstreamError(
                    f"{self.id}: the header says that {container.slices} of {total} slices are sent; encode it again"
                )
        if self.max_pixels is not None and container.width * container.height > self.max_pixels:
            raise BitstreamError(
                f"{self.id}: the header says {container.width}x{container.height} pixels, above the limit of "
                f"{self.max_pixels}; raise --max-pixels if you trust the file"
            )
        return container

    def _maps(
        self, container: Container, stages: int | None = None, complete: Literal["likeliest"] | int | None = None
    ) -> list[Tensor]:
        """The maps h×w (int64) of the first *stages* grids, or of all if the rest is to be completed."""
        import torch

        from hvqbench.vq.prefix import completion

        if stages is not None and stages < 1:
            raise HvqbenchError(f"{self.id}: cannot paint from {stages} stages; name a number from 1")
        layout, model = self._layout(container.height, container.width), self._models[container.mode]
        levels = min(stages or container.stages, container.stages)
        if complete is None:
            layout, seed = layout.first(levels), container.seed
        else:
            seed = None if complete == "likeliest" else complete
        slices = min(model.slices(layout.first(levels)), container.slices or model.slices(layout))
        try:
            with torch.inference_mode():
                return layout.maps(model.read(layout, container.payload, slices, completion(seed)))
        except (AssertionError, ValueError) as error:
            raise BitstreamError(
                f"{self.id}: the payload cannot be decoded ({error}); encode the image again"
            ) from None

    @property
    def _index_files(self) -> list[Path]:
        return [path for name in ("weights", "frequencies") if (path := self._path(name))]

    def _path(self, option: str) -> Path | None:
        name = getattr(self.options, option)
        return (self.spec.folder / name).resolve() if name else None


def _digest(maps: Sequence[NDArray[np.int32]]) -> str:
    """Of maps of one size as one array S×h×w, of others one after the other."""
    arrays = [np.stack(maps)] if len({part.shape for part in maps}) == 1 else maps
    parts = [repr(array.shape).encode() + array.astype("<i4").tobytes() for array in arrays]
    return hashlib.sha256(b"".join(parts)).hexdigest()
