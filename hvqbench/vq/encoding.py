"""One image on its way into streams: what does not depend on the point is computed once, and the best choice sent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from hvqbench.codec import Image
from hvqbench.errors import HvqbenchError
from hvqbench.timing import span
from hvqbench.vq.choose import Choice, Prefix, Source, refined
from hvqbench.vq.layout import Layout
from hvqbench.vq.models.base import IndexModel
from hvqbench.vq.networks import Networks
from hvqbench.vq.options import VQOptions
from hvqbench.vq.routing import Routing
from hvqbench.vq.steering import Steering


class Encoding:
    """Choices for *image* at any point of a codec with those *options*.

    Parameters
    ----------
    models
        By index mode; the first is the codec's own, the others are used where they are shorter.
    steering
        What is asked beside L of a codec with granularities.
    """

    def __init__(
        self,
        image: Image,
        networks: Networks,
        models: Mapping[int, IndexModel],
        options: VQOptions,
        steering: Steering | None,
    ) -> None:
        self.models, self.options = models, options
        self.own_mode, self.own = next(iter(models.items()))
        tokenizer = networks.tokenizer
        self.most = min(options.stages or len(tokenizer.grids), len(tokenizer.grids))
        """The largest number of grids that may be sent."""
        self.prefixes = [count for count in tokenizer.prefixes if count <= self.most]
        """The numbers of grids that may be sent, ascending."""
        features = networks.features(image)
        if options.search:
            features = networks.searched(image, features, options.search)
        self.source = source = Source(tokenizer, Layout.of(tokenizer, *image.shape[:2]), features)
        with torch.inference_mode():
            with span("tokenizer-encode"):
                self.nearest = [symbols[0].cpu() for symbols in tokenizer.quantize(features)[: self.most]]
                embeddings = [part.cpu() for part in source.embed(self.nearest)]
            self.sides = {mode: model.side(embeddings) for mode, model in models.items()}
            self.routing: Routing | None = None
            if options.router:
                self.routing = Routing(
                    self.own,
                    source,
                    self.nearest,
                    networks.pixels(image),
                    image.shape[:2],
                    router=options.router,
                    measure=options.distortion,
                    steering=steering,
                    tile=options.tile,
                )
        self.slices = self.own.slices(source.layout.first(self.most))
        """How many slices the own model codes all grids in."""

    @torch.inference_mode()
    def choose(
        self, levels: Sequence[int], slices: int | None, point: float, routes: int | None = None
    ) -> tuple[int, Choice]:
        """The index mode, and what is sent at *point*.

        Parameters
        ----------
        levels
            Numbers of grids to choose among, ascending.
        slices
            So many are sent, whatever the options say of that point.
        routes
            Passes of the router.
        """
        slices = slices or self.options.slices(point)
        weight = self._weight(point)
        layout = self.source.layout.first(levels[-1])
        passes, side = self.options.passes, self.sides[self.own_mode]
        if slices is not None and slices < self.own.slices(layout):
            prefix = Prefix(slices, self.options.seed)
            return self.own_mode, refined(self.own, self.source, side, weight, levels[-1:], prefix, passes)
        choices: dict[int, Choice] = {}
        for mode, model in self.models.items():
            if self.routing and (weight or self.routing.steering.shares):
                first = choices.get(self.own_mode)
                choices[mode] = (
                    self.routing.coded_by(model, first, weight)
                    if first
                    else self.routing.choose(weight, levels[-1], routes, deep=len(levels) == 1)
                )
            elif weight:
                choices[mode] = refined(model, self.source, self.sides[mode], weight, levels, None, passes)
            else:
                maps = self.nearest[: levels[-1]]
                choices[mode] = Choice(maps, model.code(layout, maps, self.sides[mode]), 0)
        # Of equals the first, which is the codec's own.
        mode = min(choices, key=lambda mode: (choices[mode].cost, len(choices[mode].coded.payload)))
        return mode, choices[mode]

    def _weight(self, point: float) -> float:
        """L of a *point*."""
        if self.options.point == "slices":
            if not (float(point).is_integer() and 1 <= point <= self.slices):
                raise HvqbenchError(f"{point:g} is not a number of slices; a point is one from 1 to {self.slices}")
            return 0.0
        if point < 0:
            raise HvqbenchError(f"L = {point:g} is negative; a point is the weight of a bit, 0 or more")
        if point and not self.source.tokenizer.continuous:
            raise HvqbenchError(
                "the tokenizer gives indices and no latent, so L must be 0; let its encode give a latent"
            )
        return point
