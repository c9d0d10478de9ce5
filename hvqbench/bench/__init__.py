"""Runs codecs over images and keeps what comes out.

``plan`` says which rows are wanted, ``executor`` has ``worker`` processes measure the missing ones as ``task``
describes (``ray_executor`` those of each ``node`` of a cluster), ``store`` keeps each row when it is finished,
``sweep`` joins them.
``timing`` is a pass of its own, on a machine that ``machine`` describes.
"""

from hvqbench.bench.reading import read_results
from hvqbench.bench.sweep import run
from hvqbench.bench.timing import read_timing, time_codecs

__all__ = ["read_results", "read_timing", "run", "time_codecs"]
