"""CompressAI's models (https://github.com/InterDigitalInc/CompressAI): real strings, from its zoo or from a checkpoint.

Options:

``architecture``
    a name of CompressAI's registry (``mbt2018-mean``, ``cheng2020-attn``, ``elic2022-chandelier``, ...), or
    ``package.module:Class`` for a model with CompressAI's methods ``from_state_dict``, ``update``, ``compress`` and
    ``decompress``, and its parts ``g_a`` and ``g_s``
``weights``
    a list with one file for each point: a URL, or the path of a safetensors or torch file relative to the
    ``codec.toml``. Sizes (N, M) follow from the tensors. Entropy coding tables in the file are used as they are; a file
    without them gets them made.

An image is padded as CompressAI's ``eval_model`` pads it: by black on all four sides, to multiples of 64.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from hvqbench.adapters.learned.codec import LearnedCodec
from hvqbench.catalog import load_object
from hvqbench.errors import HvqbenchError, closest

if TYPE_CHECKING:
    from torch import Tensor, nn

PADDING = 64
LATENT_FACTOR, HYPER_FACTOR = 16, 64
"""Pixels of an image's side to one of y and to one of z, in every image model of CompressAI."""


class CompressAICodec(LearnedCodec):
    """One architecture of CompressAI, with weights for each point."""

    version: ClassVar[str] = "1"
    libraries: ClassVar[tuple[str, ...]] = ("torch", "compressai")
    required = frozenset({"architecture", "weights"})

    def build(self, point: int, tensors: Mapping[str, Tensor]) -> tuple[Any, nn.Module, nn.Module]:
        kind = self._architecture()
        from compressai.zoo.pretrained import load_pretrained

        model = kind.from_state_dict(load_pretrained(dict(tensors)))  # also renames the keys of old checkpoints
        model.update()  # makes the tables that are not in the file, and leaves those that are
        return model, model.g_a, model.g_s

    def compress(self, model: Any, pixels: Tensor) -> Sequence[bytes]:
        from torch.nn.functional import pad

        height, width = pixels.shape[-2:]
        padded = pad(pixels, _padding(height, width))
        out = model.compress(padded)
        if _plain(out["shape"]) != _plain(_shape(model, *padded.shape[-2:])):
            name = self.spec.options["architecture"]
            raise HvqbenchError(
                f"{self.id}: {name} sends a shape that does not follow from the image's size; write an adapter for it"
            )
        return [string for (string,) in out["strings"]]

    def decompress(self, model: Any, strings: Sequence[bytes], height: int, width: int) -> Tensor:
        left, right, top, bottom = _padding(height, width)
        shape = _shape(model, height + top + bottom, width + left + right)
        out = model.decompress([[string] for string in strings], shape)["x_hat"]
        return out[..., top : top + height, left : left + width]

    def _architecture(self) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the libraries that CompressAI imports for its point clouds
            import compressai.zoo  # noqa: F401 - fills the registry
            from compressai.registry import MODELS

        name = self.spec.options["architecture"]
        if ":" in name:
            return load_object(name)
        if name not in MODELS:
            hint = closest(name, MODELS)
            raise HvqbenchError(f"{self.id}: CompressAI has no architecture {name!r}: {hint}correct codec.toml")
        return MODELS[name]


def _padding(height: int, width: int) -> tuple[int, int, int, int]:
    """Pixels to add left, right, top and bottom, as ``compressai.ops.compute_padding`` has it."""
    wide, high = -width % PADDING, -height % PADDING
    return wide // 2, wide - wide // 2, high // 2, high - high // 2


def _shape(model: Any, height: int, width: int) -> Any:
    """What ``compress`` returns as the shape of an image of that size, a multiple of :data:`PADDING`."""
    latent = (height // LATENT_FACTOR, width // LATENT_FACTOR)
    hyper = (height // HYPER_FACTOR, width // HYPER_FACTOR)
    if not hasattr(model, "latent_codec"):
        return latent if getattr(model, "downsampling_factor", HYPER_FACTOR) == LATENT_FACTOR else hyper
    # A model of latent codecs: z, and y whole or in groups of channels.
    groups = [(channels, *latent) for channels in getattr(model, "groups", ())]
    return {"y": groups or (model.g_a[-1].out_channels, *latent), "hyper": hyper}


def _plain(shape: Any) -> Any:
    """Sizes, lists and tuples of a shape as nested lists, so that they compare."""
    if isinstance(shape, dict):
        return {key: _plain(value) for key, value in shape.items()}
    return [_plain(part) for part in shape] if isinstance(shape, Sequence) else shape
