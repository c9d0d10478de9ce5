"""Is this codec fit for a benchmark? What ``docs/codecs.md`` asks of an adapter, tried out.

    examination = examine("jpeg")                  # or the path of a codec.toml
    examination.count("failed"), examination.findings

A codec runs in two processes of its own: one that encodes and decodes, one that gets nothing but bytes. Either may
crash or hang, and the examination goes on. ``docs/doctor.md`` says what is checked.
"""

from __future__ import annotations

from hvqbench.doctor.examination import CHECK_NAMES, TIMEOUT_S, Examination, examine, select_checks
from hvqbench.doctor.subject import Finding

__all__ = ["CHECK_NAMES", "TIMEOUT_S", "Examination", "Finding", "examine", "select_checks"]
