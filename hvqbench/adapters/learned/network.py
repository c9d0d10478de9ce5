"""A network of another library in use: which device and how many threads it runs on, and which symbols it codes.

An arithmetic decoder needs the encoder's very probabilities: one last digit that differs, and what follows is garbage
(CompressAI issue 279). So the networks that set probabilities run on the CPU and on one thread, whatever the device and
however many threads there are; only analysis and synthesis, which set none, use those. Another kind of processor may
still sum in another order. Nothing can rule that out for floating-point networks, but it does not stay hidden: the
symbols that the decoder restores are compared with those that the encoder coded.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn

from hvqbench.adapters.learned.container import FINGERPRINT_BYTES
from hvqbench.assets import digest_of
from hvqbench.timing import span


class Network:
    """A model ready to code, with its entropy coding tables made.

    Parameters
    ----------
    model
        The whole model, on the CPU.
    analysis, synthesis
        The parts of it that may run on *device*: image to latent, latent to image.
    """

    def __init__(self, model: Any, analysis: nn.Module, synthesis: nn.Module, device: str) -> None:
        self.model = model.eval()
        digest = digest_of({key: value.detach() for key, value in model.state_dict().items()})
        self.fingerprint = hashlib.sha256(f"{type(model).__name__} {digest}".encode()).digest()[:FINGERPRINT_BYTES]
        self._coders = [module for module in model.modules() if hasattr(module, "entropy_coder")]
        self._threads = 1
        for stage, part in (("analysis", analysis), ("synthesis", synthesis)):
            part.to(device)
            part.forward = self._at_large(stage, part.forward, device)

    @contextmanager
    def coding(self, method: Literal["quantize", "dequantize"]) -> Iterator[Symbols]:
        """Around a call that encodes (``quantize``) or decodes (``dequantize``): one thread, and symbols recorded."""
        symbols = Symbols(known=bool(self._coders))
        self._threads = torch.get_num_threads()
        torch.set_num_threads(1)
        for coder in self._coders:
            setattr(coder, method, symbols.watch(method, getattr(coder, method)))
        try:
            with torch.inference_mode():
                yield symbols
        finally:
            for coder in self._coders:
                delattr(coder, method)  # the class's own is seen again
            torch.set_num_threads(self._threads)

    def _at_large(self, stage: str, forward: Callable[[Tensor], Tensor], device: str) -> Callable[[Tensor], Tensor]:
        """*forward* on *device* and on all threads, for input and output on the CPU."""

        def run(x: Tensor) -> Tensor:
            torch.set_num_threads(self._threads)
            try:
                with span(stage):
                    return forward(x.to(device)).cpu()
            finally:
                torch.set_num_threads(1)

        return run


class Symbols:
    """The integers that a model's entropy models code, in their order.

    CompressAI's entropy models make them in ``quantize(inputs, "symbols", ...)`` and restore them by
    ``dequantize(symbols, ...)``; both are watched, and neither is changed.
    """

    def __init__(self, known: bool) -> None:
        self._digest = hashlib.sha256()
        self._known = known

    @property
    def digest(self) -> str | None:
        """Their sha256; None for a model without such entropy models."""
        return self._digest.hexdigest() if self._known else None

    def watch(self, method: str, function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        """*function*, with a record of the symbols that it returns (``quantize``) or takes (``dequantize``)."""

        def quantize(inputs: Tensor, mode: str, *arguments: Any, **options: Any) -> Tensor:
            result = function(inputs, mode, *arguments, **options)
            if mode == "symbols":
                self._add(result)
            return result

        def dequantize(inputs: Tensor, *arguments: Any, **options: Any) -> Tensor:
            self._add(inputs)
            return function(inputs, *arguments, **options)

        return quantize if method == "quantize" else dequantize

    def _add(self, symbols: Tensor) -> None:
        self._digest.update(symbols.cpu().int().contiguous().numpy().astype("<i4").tobytes())
