"""Weights on disk: safetensors only, written atomically, read with errors that name the file."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from hvqbench.errors import HvqbenchError
from hvqbench.files import atomic_path


def save_weights(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write *tensors* and string *metadata* to *path*, or leave what was there untouched."""
    from safetensors.torch import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        save_file({name: t.detach().cpu().contiguous() for name, t in tensors.items()}, temporary, dict(metadata))
        temporary.chmod(0o644)  # safetensors writes files for their owner only


def sha256(path: Path) -> str:
    """Hex digest of a file."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise HvqbenchError(f"cannot read weights {path}: {error}; fetch or train them again") from None


def load_weights(path: Path, *keys: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of *path*; *keys* are metadata that must be there."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (OSError, SafetensorError) as error:
        raise HvqbenchError(f"cannot read weights {path}: {error}; fetch or train them again") from None
    missing = [key for key in keys if key not in metadata]
    if missing:
        raise HvqbenchError(
            f"{path} holds no {missing[0]!r} in its metadata: it is not the kind of weights expected here"
        )
    return tensors, metadata


SCALE = ".scale"


def eight_bit(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Kernels of convolutions in 8 bits with a scale for each output channel, everything else in fp16.

    Half of what fp16 takes. What a rounded network paints differs from what it painted before by some -40 dB, which is
    far below what quantization of the latent does; the rounded weights are then *the* weights of a codec.
    """
    packed: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if tensor.dim() == 4:
            mantissa, exponent = torch.frexp(tensor.float().abs().amax((1, 2, 3), keepdim=True).clamp_min(1e-12) / 127)
            # On few digits, so that what was rounded once stays as it is when it is packed again.
            scale = torch.ldexp((mantissa * 2**12).ceil() / 2**12, exponent)
            packed[name], packed[name + SCALE] = (tensor / scale).round().to(torch.int8), scale
        else:
            packed[name] = tensor.half()
    return packed


def full_precision(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What :func:`eight_bit` packed, in fp32."""
    named = {name: tensor.float() for name, tensor in tensors.items() if not name.endswith(SCALE)}
    return {name: t * tensors[name + SCALE] if name + SCALE in tensors else t for name, t in named.items()}
