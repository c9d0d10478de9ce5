"""The published LPIPS and DISTS networks on the backbones of :mod:`hvqbench.assets`, so that none downloads its own."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from hvqbench.assets import BACKBONES, backbone

if TYPE_CHECKING:
    import torch


def lpips_network(net: Literal["alex", "vgg"]) -> Any:
    """``lpips.LPIPS`` v0.1 (Zhang et al., CVPR 2018), frozen, on the CPU. Its input ranges over [-1, 1]."""
    with _pretrained_backbones():
        import lpips

        return lpips.LPIPS(net=net, version="0.1", verbose=False).requires_grad_(False)


def dists_network() -> Any:
    """``DISTS_pytorch.DISTS`` (Ding et al., TPAMI 2020), frozen, on the CPU. Its input ranges over [0, 1]."""
    import torch

    with _pretrained_backbones():
        import DISTS_pytorch

        network = DISTS_pytorch.DISTS(load_weights=False)
    # The package looks in sys.prefix, which is the wrong place in some installations; a copy lies beside its code.
    weights = torch.load(Path(DISTS_pytorch.__file__).parent / "weights.pt", map_location="cpu", weights_only=True)
    network.load_state_dict(weights, strict=False)
    return network.eval().requires_grad_(False)


@contextmanager
def _pretrained_backbones() -> Iterator[None]:
    """While it lasts, torchvision's pretrained AlexNet and VGG16 are :func:`hvqbench.assets.backbone`."""
    models = import_torchvision().models
    originals = {name: getattr(models, name) for name in BACKBONES}
    for name, original in originals.items():
        setattr(models, name, functools.partial(_pretrained, name, original))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # both packages call torchvision in a way that it has since renamed
            yield
    finally:
        for name, original in originals.items():
            setattr(models, name, original)


def _pretrained(name: Any, build: Callable[..., Any], **_: Any) -> torch.nn.Module:
    import torch

    with torch.device("meta"):  # the classifier, 90 % of the weights, is never used and gets no memory
        network: torch.nn.Module = build(weights=None)
    network.load_state_dict(backbone(name), strict=False, assign=True)
    return network


def import_torchvision() -> Any:
    """Torchvision, also where its wheel was built for CUDA and torch's was not.

    Such a pair fails with ``operator torchvision::nms does not exist`` (pytorch/vision#9077), because torchvision
    describes two operators that its missing extension should have declared. With them declared here everything works
    but ``torchvision.ops``. On a matched pair this is a plain import.
    """
    try:
        import torchvision
    except RuntimeError as error:
        if "torchvision::nms does not exist" not in str(error):
            raise
        _declare_operators()
        import torchvision
    return torchvision


@functools.cache  # the library must outlive its operators
def _declare_operators() -> Any:
    import torch

    library = torch.library.Library("torchvision", "DEF")
    for operator in ("nms", "qnms"):
        library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return library


def channels_last(network: Any) -> Any:
    """*network* with its weights laid out as its activations are to be: a fifth faster on the CPU, the same values."""
    import torch

    return network.to(memory_format=torch.channels_last)


@contextmanager
def full_precision() -> Iterator[None]:
    """Inference in float32: on a GPU, convolutions would else round to TF32, which moves scores by up to 1e-3."""
    import torch

    with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        yield
