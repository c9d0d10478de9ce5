"""Models that torch hub loads, with the methods of MS-ILLM (https://github.com/facebookresearch/NeuralCompression).

Torch hub runs the code of the repository it loads from. A repository of GitHub is therefore never fetched in passing:
``hvqbench fetch CODEC --trust-repo`` puts it into torch hub's cache, and from there alone it is loaded.

Options:

``repository``
    ``owner/name:ref`` on GitHub, or the path of a folder with a ``hubconf.py``, relative to the ``codec.toml``
``models``
    a list with one entry point of ``hubconf.py`` for each point
``arguments``
    a table handed to every entry point; none by default
``weights``
    a list with one file for each point, a URL or a path, whose tensors are loaded into the model; without it, an entry
    point brings its own
``libraries``
    packages that the repository imports

An entry point returns a module with ``compress(image, force_cpu=False)``, which pads by itself and returns an object
with ``latent_strings``, ``hyper_latent_strings``, ``image_size`` and ``padded_size``; ``decompress(object,
force_cpu=False)``; ``update()``; the number ``factor``, to whose multiples it pads; and its parts ``encoder`` and
``decoder``. Everything but these two parts runs on the CPU.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar

from hvqbench.adapters.learned.codec import LearnedCodec
from hvqbench.downloads import torch_hub_folder
from hvqbench.errors import HvqbenchError, UnavailableError, say

if TYPE_CHECKING:
    from torch import Tensor, nn

GITHUB = re.compile(r"([\w.-]+)/([\w.-]+):([\w./-]+)")


class TorchHubCodec(LearnedCodec):
    """Entry points of one repository, one for each point."""

    version: ClassVar[str] = "1"
    required = frozenset({"repository", "models"})
    optional = frozenset({"arguments", "weights", "libraries"})

    @property
    def libraries(self) -> tuple[str, ...]:  # type: ignore[override]
        return ("torch", *self.spec.options.get("libraries", ()))

    @property
    def repository(self) -> Path:
        """The folder of the repository: the user's own, or the one in torch hub's cache."""
        place = self.spec.options["repository"]
        if found := GITHUB.fullmatch(place):
            owner, name, ref = found.groups()
            return torch_hub_folder() / f"{owner}_{name}_{ref.replace('/', '_')}"
        return (self.spec.folder / Path(place).expanduser()).resolve()

    def missing_code(self) -> str | None:
        if (self.repository / "hubconf.py").is_file():
            return None
        if self._on_github:
            return f"{self.spec.options['repository']} is not in torch hub's cache, and {self._how_to_trust}"
        return f"{self.repository} holds no hubconf.py; correct the option repository: owner/name:ref, or a folder"

    def fetch(self, trust_repo: bool = False) -> None:
        if self._on_github and not self.repository.is_dir():
            if not trust_repo:
                raise UnavailableError(f"{self.id}: {self._how_to_trust}")
            self._download()
        super().fetch()

    def files(self) -> list[Path]:
        return [*super().files(), *sorted(self.repository.rglob("*.py"))]

    def build(self, point: int, tensors: Mapping[str, Tensor]) -> tuple[Any, nn.Module, nn.Module]:
        import torch

        entry, arguments = self.by_point("models")[point], self.spec.options.get("arguments", {})
        model: Any = torch.hub.load(str(self.repository), entry, source="local", **arguments)
        if tensors:
            model.load_state_dict(dict(tensors))
        model.update()
        return model, model.encoder, model.decoder

    def compress(self, model: Any, pixels: Tensor) -> Sequence[bytes]:
        from torch.nn.functional import pad

        height, width = pixels.shape[-2:]
        size, padded = _sizes(height, width, model.factor)
        if size != (height, width):
            pixels = pad(pixels, (0, size[1] - width, 0, size[0] - height), mode="replicate")
        out = model.compress(pixels, force_cpu=False)
        if (tuple(out.image_size), tuple(out.padded_size)) != (size, padded):
            raise HvqbenchError(
                f"{self.id}: the model pads otherwise than to multiples of {model.factor}; adapt the repository"
            )
        (latent,), (hyper_latent,) = out.latent_strings, out.hyper_latent_strings
        return [latent, hyper_latent]

    def decompress(self, model: Any, strings: Sequence[bytes], height: int, width: int) -> Tensor:
        size, padded = _sizes(height, width, model.factor)
        latent, hyper_latent = ([string] for string in strings)
        coded = SimpleNamespace(
            latent_strings=latent, hyper_latent_strings=hyper_latent, image_size=size, padded_size=padded
        )
        return model.decompress(coded, force_cpu=False)[..., :height, :width]

    @property
    def _on_github(self) -> bool:
        return bool(GITHUB.fullmatch(self.spec.options["repository"]))

    @property
    def _how_to_trust(self) -> str:
        owner, name, ref = GITHUB.fullmatch(self.spec.options["repository"]).groups()  # type: ignore[union-attr]
        read = f"read https://github.com/{owner}/{name}/tree/{ref}"
        return f"torch hub runs its code: {read}, then run `hvqbench fetch {self.id} --trust-repo`"

    def _download(self) -> None:
        import torch

        place = self.spec.options["repository"]
        say(f"fetching {place} with torch hub")
        try:
            torch.hub.list(place, trust_repo=True)  # of what fetches a repository, the one that makes no model
        except (OSError, ImportError, RuntimeError, ValueError) as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise UnavailableError(f"{self.id}: torch hub cannot load {place}: {reason}; check the network") from None


def _sizes(height: int, width: int, factor: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """The image's size when the model gets it, and after the model's padding, which reflects the image.

    A side that is too short to be reflected far enough is padded here, by repeating its edge.
    """
    padded = (height + -height % factor, width + -width % factor)
    reflects = padded[0] < 2 * height and padded[1] < 2 * width
    return ((height, width) if reflects else padded), padded
