"""Runs codecs over images and keeps what comes out.

``plan`` says which rows are wanted, ``executor`` has ``worker`` processes measure the missing ones as ``task``
describes, ``store`` keeps each row when it is finished, ``sweep`` joins them and ``summary`` shows the end of it.
"""

from hvqbench.bench.store import read_results
from hvqbench.bench.sweep import run

__all__ = ["read_results", "run"]
