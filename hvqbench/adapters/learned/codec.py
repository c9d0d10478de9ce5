"""A codec whose operating points are models of one architecture, each with its own weights."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from hvqbench.adapters.learned.container import Content, ledger, pack, unpack
from hvqbench.adapters.learned.weights import Weights
from hvqbench.codec import Bitstream, Codec, CodecSpec, Image
from hvqbench.errors import BitstreamError, HvqbenchError, UnavailableError, say

if TYPE_CHECKING:
    from torch import Tensor, nn

    from hvqbench.adapters.learned.network import Network


class LearnedCodec(Codec):
    """Base class: an adapter says how a model is built, and how it turns pixels into strings and back.

    A point is a whole number from 0 to 255, like the qualities 1 to 8 of CompressAI's zoo; the option ``weights`` lists
    one file for each, in the order of ``points``. Models are loaded when they are first needed, and kept.
    """

    required: ClassVar[frozenset[str]]
    optional: ClassVar[frozenset[str]] = frozenset()
    device = "cpu"

    def __init__(self, spec: CodecSpec) -> None:
        super().__init__(spec)
        for option in sorted(spec.options.keys() - self.required - self.optional):
            known = sorted(self.required | self.optional)
            raise HvqbenchError(f"{spec.id}: option {option!r} is unknown; this adapter has {', '.join(known)}")
        for option in sorted(self.required - spec.options.keys()):
            raise HvqbenchError(f"{spec.id}: option {option!r} is missing; state it in codec.toml")
        if any(point != int(point) or not 0 <= point <= 255 for point in spec.points):
            raise HvqbenchError(f"{spec.id}: a point is the number of a model, from 0 to 255; correct 'points'")
        self.weights = {point: Weights(name, spec.folder) for point, name in self.by_point("weights").items()}
        self._networks: dict[int, Network] = {}
        self._decoded: tuple[bytes, str | None] | None = None

    @abstractmethod
    def build(self, point: int, tensors: Mapping[str, Tensor]) -> tuple[Any, nn.Module, nn.Module]:
        """The model of *point* with its weights and its entropy coding tables, its analysis and its synthesis."""

    @abstractmethod
    def compress(self, model: Any, pixels: Tensor) -> Sequence[bytes]:
        """The strings of an image (1×3×H×W in [0, 1]); of several, the last is the hyperprior's."""

    @abstractmethod
    def decompress(self, model: Any, strings: Sequence[bytes], height: int, width: int) -> Tensor:
        """The image (1×3×H×W, about [0, 1]) of *strings*."""

    def by_point(self, option: str) -> dict[int, str]:
        """A list in the options that has one entry for each point, by point; empty if it is left out."""
        entries = self.spec.options.get(option, [])
        if not isinstance(entries, list) or len(entries) not in (0, len(self.points)):
            raise HvqbenchError(f"{self.id}: option {option!r} must be a list with an entry for each of 'points'")
        return {int(point): str(entry) for point, entry in zip(self.points, entries, strict=False)}

    def unavailable(self) -> str | None:
        for library in self.libraries:
            if find_spec(library.replace("-", "_")) is None:
                return f"the package {library} is not installed: {self.spec.needs.install or f'pip install {library}'}"
        return self.missing_code() or self._missing_weights()

    def missing_code(self) -> str | None:
        """As :meth:`unavailable`, of code that is no package."""
        return None

    def fetch(self, trust_repo: bool = False) -> None:
        for weights in self.weights.values():
            if weights.remote and not weights.path.is_file():
                licence = self.spec.needs.licence
                say(f"fetching {weights.source}{f' (licence: {licence})' if licence else ''}")
            weights.fetch()

    def files(self) -> list[Path]:
        return [weights.path for weights in self.weights.values() if not weights.remote]

    def prepare(self, device: str = "cpu") -> None:
        if reason := self.unavailable():
            raise UnavailableError(f"{self.id}: {reason}")
        if device != self.device:
            self._networks.clear()
        self.device = device

    def encode(self, image: Image, point: float) -> Bitstream:
        import torch

        if point not in self.points:
            known = ", ".join(f"{point:g}" for point in self.points)
            raise HvqbenchError(f"{self.id}: {point:g} is no model; correct the operating point to one of {known}")
        network = self._network(int(point))
        with network.coding("quantize") as symbols:
            pixels = torch.from_numpy(image.copy(order="C")).permute(2, 0, 1)[None].float() / 255
            strings = self.compress(network.model, pixels)
        height, width = image.shape[:2]
        data = pack(Content(width, height, int(point), network.fingerprint, strings))
        return Bitstream(data, ledger(data, strings), symbols.digest)

    def decode(self, data: bytes) -> Image:
        content = unpack(data, self.id)
        if content.point not in self.points:
            raise BitstreamError(f"{self.id}: the stream needs model {content.point}; add it to 'points' in codec.toml")
        network = self._network(content.point)
        if content.fingerprint != network.fingerprint:
            made, here = content.fingerprint.hex(), network.fingerprint.hex()
            raise BitstreamError(
                f"{self.id}: the stream was made by model {made}, but model {content.point} is {here} here; decode it "
                "with the weights and entropy coding tables that made it"
            )
        with network.coding("dequantize") as symbols:
            out = self.decompress(network.model, content.strings, content.height, content.width)
            pixels = (out[0] * 255).round().clamp(0, 255).byte().permute(1, 2, 0).numpy()
        self._decoded = data, symbols.digest
        return np.ascontiguousarray(pixels)

    def digest(self, data: bytes, image: Image) -> str:
        """Sha256 of the symbols: they are exact, while the last digit of the synthesis may differ between devices."""
        if self._decoded is None or self._decoded[0] != data:
            self.decode(data)
        assert self._decoded is not None
        return self._decoded[1] or super().digest(data, image)

    def _missing_weights(self) -> str | None:
        missing = [weights for weights in self.weights.values() if not weights.path.is_file()]
        if not missing:
            return None
        first, count = missing[0], f"{len(missing)} of {len(self.weights)} files"
        if not first.remote:
            return f"weights {first.path} are missing ({count}); put them there, or correct codec.toml"
        where = f"weights {first.path.name} are not in {first.path.parent} ({count})"
        return f"{where}: run `hvqbench fetch {self.id}` where {first.source.split('/')[2]} can be reached"

    def _network(self, point: int) -> Network:
        if point not in self._networks:
            from hvqbench.adapters.learned.network import Network

            weights = self.weights.get(point)
            tensors = weights.read() if weights else {}
            try:
                built = self.build(point, tensors)
            except (
                AttributeError,
                ImportError,
                KeyError,
                RuntimeError,
                TypeError,
                ValueError,
                AssertionError,
            ) as error:
                source = weights.path if weights else f"point {point}"
                reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
                raise HvqbenchError(
                    f"{self.id}: {source} does not make a model ({reason}); correct codec.toml"
                ) from error
            self._networks[point] = Network(*built, self.device)
        return self._networks[point]
