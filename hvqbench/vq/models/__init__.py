"""Index models by name. Nothing is imported before a model is loaded.

===============  ===============================================  ==========================
name             probability of an index                          coder
===============  ===============================================  ==========================
``fixed``        1 / K                                            ⌈log2 K⌉ bits each
``huffman``      training-set frequency                           Huffman (constriction)
``static``       training-set frequency                           range coder (constriction)
``hyperprior``   Gaussian at the anchors, given z (HyperVQ)       range coder (constriction)
``granular``     hyperpriors of a quadtree, and its masks         range coder (constriction)
``transformer``  given the slices before (RDVQ)                   range coder (constriction)
===============  ===============================================  ==========================

Any other name is ``package.module:Class``, a subclass of :class:`hvqbench.vq.models.base.IndexModel`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from hvqbench.errors import HvqbenchError, did_you_mean

if TYPE_CHECKING:
    from hvqbench.vq.models.base import IndexModel

INDEX_MODELS: Mapping[str, str] = {
    "fixed": "hvqbench.vq.models.static:Fixed",
    "huffman": "hvqbench.vq.models.static:Huffman",
    "static": "hvqbench.vq.models.static:Static",
    "hyperprior": "hvqbench.vq.models.hyperprior_coding:HyperpriorModel",
    "granular": "hvqbench.vq.models.granular_coding:GranularModel",
    "transformer": "hvqbench.vq.models.transformer_coding:TransformerModel",
}


def index_model_class(name: str) -> type[IndexModel]:
    """The class of the index model *name*."""
    from hvqbench.catalog import load_object
    from hvqbench.vq.models.base import IndexModel

    if name not in INDEX_MODELS and ":" not in name:
        raise did_you_mean("index model", name, INDEX_MODELS)
    model = load_object(INDEX_MODELS.get(name, name))
    if not (isinstance(model, type) and issubclass(model, IndexModel)):
        raise HvqbenchError(f"{name} is no subclass of {IndexModel.__module__}.IndexModel; correct index_model")
    return model
