"""VQ codecs: any tokenizer with any index model, composed by the options of a ``codec.toml``.

Options, with paths relative to the ``codec.toml``:

``tokenizer``
    folder that holds ``tokenizer.safetensors``
``index_model``
    ``fixed``, ``huffman``, ``static`` or ``hyperprior``
``weights``
    the index model's file; none for ``fixed``
``precision``
    ``float32`` (default) or ``bfloat16``, of the networks whose output does not set probabilities
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hvqbench.codec import Bitstream, Codec, Image, Stream
from hvqbench.errors import BitstreamError, HvqbenchError

if TYPE_CHECKING:
    import torch

    from hvqbench.vq.container import Container
    from hvqbench.vq.index_models import Coded, IndexModel, Indices
    from hvqbench.vq.tokenizer import Tokenizer

OWN_MODE, FIXED_MODE = 0, 1
"""Index modes in the container: the codec's own index model, or fixed length where that is shorter."""


class VQCodec(Codec):
    """A tokenizer, an index model, rate control by L, and the container around them. A point is L >= 0."""

    libraries = ("torch", "constriction")

    device = "cpu"
    _tokenizer: Tokenizer | None = None
    _index_model: IndexModel

    def unavailable(self) -> str | None:
        missing = [path for path in self.files() if not path.is_file()]
        return f"weights {missing[0]} are missing; train them (docs/training.md) or fetch the file" if missing else None

    def files(self) -> list[Path]:
        weights = self.spec.options.get("weights")
        return [self._tokenizer_file, *([self._path(weights)] if weights else [])]

    def prepare(self, device: str = "cpu") -> None:
        import torch

        from hvqbench.vq import index_models
        from hvqbench.vq.tokenizer import Tokenizer

        if self._tokenizer is not None and device == self.device:
            return
        if problem := self.unavailable():
            raise HvqbenchError(f"{self.id}: {problem}")
        tokenizer = Tokenizer.load(self._tokenizer_file)
        kind, codewords = self.spec.options["index_model"], tokenizer.config.codewords
        self._fixed = index_models.FixedLength(codewords)
        if kind == "fixed":
            self._index_model = self._fixed
        elif kind in ("huffman", "static"):
            model = index_models.Huffman if kind == "huffman" else index_models.Static
            self._index_model = model(self._path(self.spec.options["weights"]), codewords)
        elif kind == "hyperprior":
            path = self._path(self.spec.options["weights"])
            self._index_model = index_models.HyperpriorModel(path, tokenizer.codebook, self._tokenizer_digest)
        else:
            raise HvqbenchError(
                f"{self.id}: unknown index_model {kind!r}; known are fixed, huffman, static, hyperprior"
            )
        self._tokenizer = tokenizer.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.device = device

    def encode(self, image: Image, point: float) -> Bitstream:
        from hvqbench.vq.container import Container, pack
        from hvqbench.vq.rdo import choose_indices

        if point < 0:
            raise HvqbenchError(f"{self.id}: L = {point:g} is negative; a point is the weight of a bit, 0 or more")
        latent = self.latent(image)
        model = self._index_model
        side = model.side(latent)
        size = (latent.shape[-2], latent.shape[-1])
        codebook = self.tokenizer.codebook
        indices = choose_indices(latent, codebook, model.bits(side, size) if point else (), point)
        coded, mode = model.encode(indices, side), OWN_MODE
        fixed = self._fixed.encode(indices)
        if len(fixed.payload) < len(coded.payload):
            coded, mode = fixed, FIXED_MODE
        height, width = image.shape[:2]
        data = pack(Container(width, height, mode, coded.payload), self.model_fingerprint)
        return Bitstream(data, _ledger(data, coded), _digest(indices))

    def decode(self, data: bytes) -> Image:
        container, indices = self._read(data)
        return self.synthesise(indices)[: container.height, : container.width]

    def digest(self, data: bytes, image: Image) -> str:
        """Sha256 of the indices: they are exact, while the last digit of the synthesis may differ between devices."""
        return _digest(self.decode_indices(data))

    def decode_indices(self, data: bytes) -> Indices:
        """The index map (h×w, int32) of a stream: entropy decoding without synthesis."""
        return self._read(data)[1]

    def _read(self, data: bytes) -> tuple[Container, Indices]:
        from hvqbench.vq.container import unpack

        self.prepare(self.device)
        container = unpack(data, self.model_fingerprint, self.id)
        factor = self.tokenizer.config.factor
        size = (-(-container.height // factor), -(-container.width // factor))
        model = {OWN_MODE: self._index_model, FIXED_MODE: self._fixed}.get(container.mode)
        if model is None:
            raise BitstreamError(f"{self.id}: unknown index mode {container.mode}; decode it with a newer hvqbench")
        try:
            return container, model.decode(container.payload, size)
        except (AssertionError, ValueError) as error:
            raise BitstreamError(
                f"{self.id}: the payload cannot be decoded ({error}); encode the image again"
            ) from None

    def latent(self, image: Image) -> torch.Tensor:
        """The continuous latent 1×D×⌈H/f⌉×⌈W/f⌉ of an image, edges replicated up to a multiple of f."""
        import torch

        factor = self.tokenizer.config.factor
        height, width = image.shape[:2]
        padded = np.pad(image, ((0, -height % factor), (0, -width % factor), (0, 0)), mode="edge")
        tensor = torch.from_numpy(padded).to(self.device).permute(2, 0, 1)[None].float() / 127.5 - 1
        with torch.inference_mode(), self._precision():
            return self.tokenizer.encode(tensor.contiguous(memory_format=torch.channels_last)).float()

    def synthesise(self, indices: Indices) -> Image:
        """Indices h×w to pixels (uint8, f·h×f·w×3); values are rounded, not truncated."""
        import torch

        with torch.inference_mode(), self._precision():
            out = self.tokenizer.decode(torch.from_numpy(indices).long().to(self.device)[None]).float()
        pixels = ((out[0] + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
        return np.ascontiguousarray(pixels.permute(1, 2, 0).cpu().numpy())

    @property
    def tokenizer(self) -> Tokenizer:
        self.prepare(self.device)
        assert self._tokenizer is not None
        return self._tokenizer

    @cached_property
    def model_fingerprint(self) -> bytes:
        """Three bytes in every stream that bind it to this tokenizer and index model."""
        from hvqbench.vq.container import FINGERPRINT_BYTES

        parts = [hashlib.sha256(path.read_bytes()).hexdigest() for path in self.files()]
        text = " ".join([self.version, str(self.spec.options["index_model"]), *parts])
        return hashlib.sha256(text.encode()).digest()[:FINGERPRINT_BYTES]

    @cached_property
    def _tokenizer_digest(self) -> str:
        return hashlib.sha256(self._tokenizer_file.read_bytes()).hexdigest()

    @property
    def _tokenizer_file(self) -> Path:
        return self._path(self.spec.options["tokenizer"]) / "tokenizer.safetensors"

    def _path(self, relative: str) -> Path:
        return (self.spec.folder / relative).resolve()

    def _precision(self) -> torch.autocast:
        import torch

        bfloat16 = self.spec.options.get("precision", "float32") == "bfloat16"
        return torch.autocast(self.device.split(":")[0], dtype=torch.bfloat16, enabled=bfloat16)


def _ledger(data: bytes, coded: Coded) -> Mapping[str, Stream]:
    """Header, and the payload's streams; where they share one range coder, all but the last are charged their ideal."""
    ledger, left = {"header": Stream(len(data) - len(coded.payload))}, len(coded.payload)
    *first, last = coded.ideal_bits.items()
    for name, bits in first:
        size = min(left, round(bits / 8))
        ledger[name] = Stream(size, bits)
        left -= size
    return ledger | {last[0]: Stream(left, last[1])}


def _digest(indices: Indices) -> str:
    return hashlib.sha256(repr(indices.shape).encode() + indices.astype("<i4").tobytes()).hexdigest()
