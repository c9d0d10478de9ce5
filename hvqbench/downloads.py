"""Downloads: where they are kept, how they are fetched, and how they are checked."""

from __future__ import annotations

import contextlib
import hashlib
import os
import subprocess
import sys
from pathlib import Path
from time import monotonic
from urllib.parse import urlsplit

from hvqbench.errors import HvqbenchError, UnavailableError, say
from hvqbench.files import atomic_path, atomic_write

CACHE_VARIABLE = "HVQBENCH_CACHE"
CONNECT_TIMEOUT_S = 5.0
READ_TIMEOUT_S = 60.0
PLAIN_INTERVAL_S = 30.0
LOOPBACK = ("127.0.0.1", "::1", "localhost")


def cache_folder() -> Path:
    """The folder for everything hvqbench downloads: ``HVQBENCH_CACHE``, or the platform's user cache."""
    import platformdirs

    return Path(os.environ.get(CACHE_VARIABLE) or platformdirs.user_cache_dir("hvqbench"))


def make_folder(folder: Path) -> Path:
    """Make *folder*, of the cache or of torch hub's, and find out whether it can be written before anything is fetched.

    Raises
    ------
    HvqbenchError
        It cannot, as on a compute node whose home folder is read-only; the message names the variable to set.
    """
    variable = "TORCH_HOME" if folder.is_relative_to(torch_hub_folder()) else CACHE_VARIABLE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        reason = "" if os.access(folder, os.W_OK | os.X_OK) else "it is read-only"
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
    if reason:
        raise HvqbenchError(f"cannot write to {folder}: {reason}; set {variable} to a folder that can be written")
    return folder


def keep(path: Path, data: bytes) -> None:
    """Write *data* to *path* in the cache if that can be done; if not, it is made again when it is needed again."""
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(path, data)


def sha256_of(path: Path) -> str:
    """Sha256 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fetch(url: str, path: Path, sha256: str = "") -> None:
    """Download *url* to *path*: progress bar on stderr, atomic, checked.

    Parameters
    ----------
    sha256
        The expected hash or its beginning; empty if it is not known.

    Raises
    ------
    UnavailableError
        No connection within :data:`CONNECT_TIMEOUT_S` seconds, an HTTP error, another hash than expected, or a URL that
        is not https while the hash is not known in full.
    HvqbenchError
        The folder cannot be written.
    """
    address = urlsplit(url)
    if address.scheme != "https" and len(sha256) < 64 and address.hostname not in LOOPBACK:
        raise UnavailableError(f"{url} is not https and its sha256 is not known: anybody on the way could alter it")
    import pooch
    import requests

    download = pooch.HTTPDownloader(progressbar=sys.stderr.isatty(), timeout=(CONNECT_TIMEOUT_S, READ_TIMEOUT_S))
    make_folder(path.parent)
    with atomic_path(path) as temporary:
        try:
            download(url, str(temporary), None)
        except (requests.RequestException, OSError) as error:
            offline = isinstance(error, requests.ConnectionError | requests.Timeout)
            reason = "no connection" if offline else str(error).splitlines()[0]
            raise UnavailableError(f"cannot download {url}: {reason}; check the network") from None
        found = sha256_of(temporary)
        if not found.startswith(sha256):
            raise UnavailableError(f"{url} has sha256 {found}, not {sha256}: it changed, or was altered on the way")


def download_source(requirement: str, sha256: str, folder: Path) -> Path:
    """Fetch the source distribution ``name==version`` into *folder* with pip, and check it; its archive.

    In a terminal pip's progress bar is on stderr; elsewhere a line every :data:`PLAIN_INTERVAL_S` seconds.

    Raises
    ------
    UnavailableError
        pip finds none, or it has another sha256.
    """
    # pip checks the hash before it opens the archive. Only this package must come as source.
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{requirement} --hash=sha256:{sha256}\n")
    name = requirement.partition("==")[0]
    pip = [sys.executable, "-m", "pip", "download", "--disable-pip-version-check", "--no-deps", "--no-binary", name]
    complaints = _call_pip([*pip, "--dest", str(folder), "--requirement", str(requirements)], requirement)
    archives = list(folder.glob("*.tar.gz"))
    if not archives:
        reason = (complaints.strip().splitlines() or ["no output"])[-1]
        raise UnavailableError(f"pip cannot download {requirement}: {reason}")
    if sha256_of(archives[0]) != sha256:
        raise UnavailableError(f"{archives[0].name} has another sha256 than {sha256}")
    return archives[0]


def _call_pip(command: list[str], requirement: str) -> str:
    """Run pip, and let whoever waits see that it works; its own stderr."""
    bar = sys.stderr.isatty()
    process = subprocess.Popen(
        command, stdout=sys.stderr if bar else subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    begin = monotonic()
    try:
        while True:
            try:
                return process.communicate(timeout=PLAIN_INTERVAL_S)[1]
            except subprocess.TimeoutExpired:
                if not bar:
                    say(f"still fetching {requirement}, {monotonic() - begin:.0f} s so far")
    except BaseException:
        process.kill()
        process.wait()
        raise


def torch_hub_folder() -> Path:
    """Torch hub's cache, as ``torch.hub.get_dir()`` has it; nothing is created or imported."""
    home = os.environ.get("TORCH_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "torch")
    return Path(home).expanduser() / "hub"
