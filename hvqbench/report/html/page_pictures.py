"""Where the pictures of the page come from: decodes of what a store kept, and the maps of their errors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hvqbench.codec import Image, image_digest
from hvqbench.downloads import keep
from hvqbench.report.html.pictures import Original, cached, error_map, map_picture, picture
from hvqbench.report.names import Names

if TYPE_CHECKING:
    from hvqbench.bench.store import Store
    from hvqbench.metrics.maps import DISTSMap, LPIPSMap

    Mapper = LPIPSMap | DISTSMap

ERROR = "error"
"""The map that every decode has; those of metrics, where they are asked for, are called by their ids."""


@dataclass(frozen=True)
class Wanted:
    """A decode that the room could show: a finished row of the results."""

    image: str
    codec: str
    point: float
    row: Mapping[str, Any]


class PagePictures:
    """Decodes what a store kept, and makes pictures of it."""

    def __init__(self, store: Store, note: Callable[[str], None], maps: Mapping[str, Mapper], names: Names) -> None:
        from hvqbench.bench.worker import Codecs

        self._store, self._note, self._maps, self._names = store, note, maps, names
        self._codecs = Codecs()

    def files(self, item: Wanted, original: Original) -> tuple[bytes, dict[str, bytes]] | None:
        """Picture and maps of a decode; None, and a note, if it cannot be decoded here."""
        sha = str(item.row["reconstruction_sha256"])
        kinds = {"": "picture", ERROR: "map"} | {name: f"map-{self._version(name)}" for name in self._maps}
        kept = {name: cached(f"{sha}-{original.sha}-{kind}") for name, kind in kinds.items()}
        if all(path.is_file() for path in kept.values()):
            found = {name: path.read_bytes() for name, path in kept.items()}
            return found.pop(""), found
        decoded = self._decode(item)
        if decoded is None:
            return None
        if decoded.shape != original.pixels.shape:
            self._note(f"{self._names(item.codec)}: decodes {item.image} to another size than the original's.")
            return None
        first, second = original.cut(original.pixels), original.cut(decoded)
        made = {"": picture(second), ERROR: error_map(first, second)} | dict(self._maps_of(item, first, second))
        if image_digest(decoded) == sha:
            for name, data in made.items():
                keep(kept[name], data)
        else:
            self._note(f"{self._names(item.codec)}: decoded here, some pixels differ from those that were measured.")
        return made.pop(""), made

    def _maps_of(self, item: Wanted, original: Image, decoded: Image) -> Iterator[tuple[str, bytes]]:
        """The maps of metrics; an image that is too small for one has none, which is noted."""
        from hvqbench.metrics.maps import LIGHTEST

        for name, mapper in self._maps.items():
            if min(original.shape[:2]) < mapper.info.minimum_side:
                self._note(f"{item.image} is too small for a map of {mapper.info.title}.")
            else:
                yield name, map_picture(mapper.map(original, decoded), LIGHTEST[name])

    def _version(self, name: str) -> str:
        info = self._maps[name].info
        return f"{info.id}-{info.version}"

    def _decode(self, item: Wanted) -> Image | None:
        data = self._store.stream(str(item.row.get("bitstream_sha256")))
        if data is None:
            self._note(f"{self._names(item.codec)}: not all of its bitstreams were kept.")
            return None
        try:
            return self._codecs(item.codec, "cpu").decode(data)
        except Exception as error:  # an adapter's own, of any kind
            self._note(f"{self._names(item.codec)}: cannot be decoded here: {error}")
            return None
