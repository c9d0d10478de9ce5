"""VQ codecs: any tokenizer with any index model, composed by the options of a ``codec.toml``.

Options, with paths relative to the ``codec.toml``:

``tokenizer``
    folder that holds ``tokenizer.safetensors``, or a model of another library (:mod:`hvqbench.vq.loading`)
``index_model``
    ``fixed``, ``huffman``, ``static`` or ``hyperprior``
``weights``
    the index model's file; none for ``fixed``
``frequencies``
    training-set counts, with which an image is sent where that is shorter; optional
``stages``
    at most so many stages of a residual tokenizer are sent; all by default
``tile``
    side in pixels of the pieces in which the tokenizer's networks see an image, so that memory does not follow its
    size; without it they see all of it at once
``search``
    steps of gradient descent by which the encoder improves an image's latent (:mod:`hvqbench.vq.search`); none without
``precision``
    ``float32`` (default) or ``bfloat16``, of the networks whose output does not set probabilities
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from hvqbench.codec import Bitstream, Codec, Image
from hvqbench.errors import BitstreamError, HvqbenchError
from hvqbench.timing import span
from hvqbench.vq.loading import load_tokenizer, tokenizer_files, tokenizer_libraries, tokenizer_unavailable
from hvqbench.vq.tiling import padded, scaled, windows

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from hvqbench.vq.base import BaseTokenizer
    from hvqbench.vq.container import Container
    from hvqbench.vq.index_models import IndexModel
    from hvqbench.vq.rdo import Choice

OWN_MODE, FIXED_MODE, STATIC_MODE = 0, 1, 2
"""Index modes in the container: the codec's own index model, or another where that is shorter."""


class VQCodec(Codec):
    """A tokenizer, an index model, rate control by L, and the container around them. A point is L >= 0."""

    version: ClassVar[str] = "2"

    device = "cpu"
    _tokenizer: BaseTokenizer | None = None
    _models: Mapping[int, IndexModel]
    """By mode, the codec's own first."""

    @property
    def point_range(self) -> tuple[float, float]:
        """L is a weight."""
        return 0.0, math.inf

    @property
    def libraries(self) -> tuple[str, ...]:  # type: ignore[override]
        searches = ("lpips",) if "search" in self.spec.options else ()
        return ("torch", "constriction", *searches, *tokenizer_libraries(self.spec.options["tokenizer"]))

    def unavailable(self) -> str | None:
        if reason := tokenizer_unavailable(self.spec.options["tokenizer"], self.spec.folder):
            return reason
        missing = [path for path in self._index_files if not path.is_file()]
        return f"weights {missing[0]} are missing; train them (docs/training.md) or fetch the file" if missing else None

    def files(self) -> list[Path]:
        return [*tokenizer_files(self.spec.options["tokenizer"], self.spec.folder), *self._index_files]

    def prepare(self, device: str = "cpu") -> None:
        import torch

        if self._tokenizer is not None and device == self.device:
            return
        if reason := self.unavailable():
            raise HvqbenchError(f"{self.id}: {reason}")
        tokenizer = load_tokenizer(self.spec.options["tokenizer"], self.spec.folder)
        self._models = self._index_models(tokenizer)
        self._tokenizer = tokenizer.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.device = device
        assert self.model_fingerprint  # reads the files now rather than while an image waits

    def encode(self, image: Image, point: float) -> Bitstream:
        return self.encoders(image)[""](point)

    def encoders(self, image: Image) -> dict[str, Callable[[float], Bitstream]]:
        """Encode one image at many points: the latent and its nearest indices do not depend on L.

        The first chooses the number of stages, where the rate jumps; each of the others always sends the same number.
        """
        import torch

        from hvqbench.vq.rdo import Choice, refined

        tokenizer, most = self.tokenizer, self._stages
        latent = self._searched(image, self.latent(image))
        with torch.inference_mode():
            with span("tokenizer-encode"):
                nearest = tokenizer.quantize(latent)[0, :most].cpu()
                embedding = tokenizer.embed(nearest[None].to(self.device)).cpu()
            latent, codebooks = latent.cpu(), tokenizer.codebooks.cpu()
            sides = {mode: model.side(embedding) for mode, model in self._models.items()}

        @torch.inference_mode()
        def encode(stages: range, point: float) -> Bitstream:
            if point < 0:
                raise HvqbenchError(f"{self.id}: L = {point:g} is negative; a point is the weight of a bit, 0 or more")
            choices = {}
            for mode, model in self._models.items():
                if point:
                    choices[mode] = refined(model, sides[mode], latent, codebooks, point, stages)
                else:
                    indices = nearest[: stages[-1]]
                    choices[mode] = Choice(indices, model.code(indices, sides[mode]), 0)
            # Of equals the first, which is the codec's own.
            mode = min(choices, key=lambda mode: (choices[mode].cost, len(choices[mode].coded.payload)))
            return self._bitstream(image, mode, choices[mode])

        numbers = {"": range(1, most + 1)}
        if most > 1:
            numbers |= {f"{n} of {most} stages": range(n, n + 1) for n in range(1, most + 1)}
        return {name: partial(encode, stages) for name, stages in numbers.items()}

    def decode(self, data: bytes, stages: int | None = None) -> Image:
        """As :meth:`Codec.decode`; painted from the first *stages* stages of what was sent, from all by default."""
        container = self._unpack(data)
        return self._synthesise(self._indices(container, stages))[: container.height, : container.width]

    def digest(self, data: bytes, image: Image) -> str:
        """Sha256 of the indices: they are exact, while the last digit of the synthesis may differ between devices."""
        return _digest(self.decode_indices(data))

    def decode_indices(self, data: bytes) -> NDArray[np.int32]:
        """The index map (S×h×w) of a stream: entropy decoding without synthesis."""
        return self._indices(self._unpack(data)).int().numpy()

    def latent(self, image: Image) -> Tensor:
        """The continuous latent 1×D×⌈H/f⌉×⌈W/f⌉ of an image, edges replicated up to a multiple of f."""
        import torch

        shape = self.tokenizer.config
        factor = shape.factor
        with torch.inference_mode(), self._precision(), span("tokenizer-encode"):
            whole = padded(image, factor)
            size = (whole.shape[0] // factor, whole.shape[1] // factor)
            latent = torch.empty((1, shape.dim, *size), device=self.device)
            for window in windows(self.tokenizer, size, self.spec.options.get("tile")):
                pixels = self._tensor(whole[scaled(window.seen, factor)])
                latent[..., *window.kept] = self.tokenizer.encode(pixels)[..., *window.inner].float()
            return latent

    def _searched(self, image: Image, latent: Tensor) -> Tensor:
        if not (steps := self.spec.options.get("search", 0)):
            return latent
        from hvqbench.vq.search import searched

        with span("search"):
            pixels = self._tensor(padded(image, self.tokenizer.config.factor))
            return searched(self.tokenizer, pixels, latent, steps, self.spec.options.get("tile"))

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

        parts = [hashlib.sha256(path.read_bytes()).hexdigest() for path in self.files()]
        text = " ".join([self.version, str(self.spec.options["index_model"]), *parts])
        return hashlib.sha256(text.encode()).digest()[:FINGERPRINT_BYTES]

    def _index_models(self, tokenizer: BaseTokenizer) -> dict[int, IndexModel]:
        from hvqbench.vq.hyperprior_coder import HyperpriorModel
        from hvqbench.vq.index_models import FixedLength, Huffman, Static

        kind, fixed = self.spec.options["index_model"], FixedLength(tokenizer)
        if kind == "fixed":
            return {OWN_MODE: fixed}
        kinds: dict[str, Callable[..., IndexModel]]
        kinds = {"huffman": Huffman, "static": Static, "hyperprior": HyperpriorModel}
        if kind not in kinds:
            raise HvqbenchError(f"{self.id}: unknown index_model {kind!r}; known are fixed, {', '.join(kinds)}")
        models: dict[int, IndexModel] = {OWN_MODE: kinds[kind](self._path("weights"), tokenizer), FIXED_MODE: fixed}
        if "frequencies" in self.spec.options:
            models[STATIC_MODE] = Static(self._path("frequencies"), tokenizer)
        return models

    def _bitstream(self, image: Image, mode: int, choice: Choice) -> Bitstream:
        from hvqbench.vq.container import Container, pack

        height, width = image.shape[:2]
        with span("container"):
            content = Container(width, height, mode, choice.coded.payload, len(choice.indices))
            data = pack(content, self.model_fingerprint)
        ledger = choice.coded.ledger(len(data))
        return Bitstream(data, ledger, _digest(choice.indices.int().numpy()))

    def _unpack(self, data: bytes) -> Container:
        from hvqbench.vq.container import unpack

        stages = self.tokenizer.config.stages
        with span("container"):
            container = unpack(data, self.model_fingerprint, self.id)
        if container.mode not in self._models:
            raise BitstreamError(f"{self.id}: unknown index mode {container.mode}; decode it with a newer hvqbench")
        if container.stages > stages:
            raise BitstreamError(
                f"{self.id}: the header says {container.stages} stages, but the tokenizer has {stages}; encode it again"
            )
        return container

    def _indices(self, container: Container, stages: int | None = None) -> Tensor:
        """The indices S'×h×w (int64) of the first *stages* stages."""
        import torch

        if stages is not None and stages < 1:
            raise HvqbenchError(f"{self.id}: cannot paint from {stages} stages; name a number from 1")
        factor = self.tokenizer.config.factor
        size = (-(-container.height // factor), -(-container.width // factor))
        model = self._models[container.mode]
        try:
            with torch.inference_mode():
                return model.decode(container.payload, size, min(stages or container.stages, container.stages))
        except (AssertionError, ValueError) as error:
            raise BitstreamError(
                f"{self.id}: the payload cannot be decoded ({error}); encode the image again"
            ) from None

    def _synthesise(self, indices: Tensor) -> Image:
        """Indices S'×h×w to pixels (uint8, f·h×f·w×3); values are rounded, not truncated."""
        import torch

        factor = self.tokenizer.config.factor
        height, width = indices.shape[-2:]
        image = np.empty((height * factor, width * factor, 3), np.uint8)
        with torch.inference_mode(), self._precision(), span("tokenizer-decode"):
            for window in windows(self.tokenizer, (height, width), self.spec.options.get("tile")):
                out = self.tokenizer.decode(indices[..., *window.seen].to(self.device)[None])[0].float()
                pixels = ((out[..., *scaled(window.inner, factor)] + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
                image[scaled(window.kept, factor)] = pixels.permute(1, 2, 0).cpu().numpy()
        return image

    def _tensor(self, pixels: Image) -> Tensor:
        """Pixels as a batch of one, 1×3×H×W in [-1, 1], on the device."""
        import torch

        batch = torch.from_numpy(pixels).to(self.device).permute(2, 0, 1)[None]
        return (batch.float() / 127.5 - 1).contiguous(memory_format=torch.channels_last)

    @property
    def _stages(self) -> int:
        """How many stages are sent at most."""
        stages = self.spec.options.get("stages", self.tokenizer.config.stages)
        if not isinstance(stages, int) or stages < 1:
            raise HvqbenchError(f"{self.id}: option stages = {stages!r} is no whole number from 1; correct codec.toml")
        return min(stages, self.tokenizer.config.stages)

    @property
    def _index_files(self) -> list[Path]:
        return [self._path(name) for name in ("weights", "frequencies") if name in self.spec.options]

    def _path(self, option: str) -> Path:
        if option not in self.spec.options:
            kind = self.spec.options["index_model"]
            raise HvqbenchError(
                f"{self.id}: index_model {kind!r} needs the option {option}; name the file in codec.toml"
            )
        return (self.spec.folder / self.spec.options[option]).resolve()

    def _precision(self) -> torch.autocast:
        import torch

        bfloat16 = self.spec.options.get("precision", "float32") == "bfloat16"
        return torch.autocast(self.device.split(":")[0], dtype=torch.bfloat16, enabled=bfloat16)


def _digest(indices: NDArray[np.int32]) -> str:
    return hashlib.sha256(repr(indices.shape).encode() + indices.astype("<i4").tobytes()).hexdigest()
