"""What `visavis serve` makes sure of before it starts a process: a writable data folder that is its own, a free port.

Every refusal is one sentence that says what to change. Knows nothing of what is started afterwards.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from visavis.bot.settings import Settings

LONGEST_SOCKET_PATH = 90
ORPHAN_PATIENCE_S = 3.0
BACKLOG = 2048


class ServeError(RuntimeError):
    """`serve` cannot go on; the message is one sentence."""


@contextlib.contextmanager
def prepared(settings: Settings) -> Iterator[socket.socket]:
    """Lock the data folder, give the listening socket, and leave both behind cleanly.

    Raises:
        ServeError: a data folder that cannot be written or is in use, a port that is taken or not allowed.
    """
    with locked_folder(settings.data_dir) as after_a_crash:
        listener = _bind(settings, ORPHAN_PATIENCE_S if after_a_crash else 0.0)
        with listener:
            yield listener


def check_data_folder(folder: Path) -> None:
    """Make the folder (for its owner only) and write to it once.

    Raises:
        ServeError: if that fails.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ServeError(
            f"The data folder {folder} cannot be written ({error.strerror}); choose another with --data-dir."
        ) from error


def socket_folder(data_dir: Path) -> Path:
    """Where the unix sockets of a data folder lie; a path may have about 100 bytes, so deep folders get one in /tmp.

    Raises:
        ServeError: if somebody else owns that folder.
    """
    folder = data_dir / "run"
    if len(os.fsencode(folder)) > LONGEST_SOCKET_PATH:
        digest = hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:12]
        folder = Path(tempfile.gettempdir()) / f"visavis-{os.getuid()}-{digest}"
    folder.mkdir(exist_ok=True, parents=True, mode=0o700)
    if folder.stat().st_uid != os.getuid() or folder.is_symlink():
        raise ServeError(f"The folder {folder} belongs to somebody else; choose a shorter path with --data-dir.")
    return folder


@contextlib.contextmanager
def locked_folder(folder: Path) -> Iterator[bool]:
    """One supervisor per data folder. The lock dies with its process; the note inside it tells of one that crashed.

    Raises:
        ServeError: the folder cannot be written, or is in use.
    """
    check_data_folder(folder)
    with open(folder / "supervisor.lock", "a+", encoding="ascii") as lock:
        lock.seek(0)
        note = lock.read().strip()
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ServeError(
                f"The data folder {folder} is in use by another `visavis serve` (process {note or 'unknown'}); "
                "stop that one or choose another with --data-dir."
            ) from error
        _write(lock.fileno(), f"{os.getpid()}\n")
        try:
            yield bool(note)
        finally:
            _write(lock.fileno(), "")


def _write(descriptor: int, text: str) -> None:
    os.ftruncate(descriptor, 0)
    os.write(descriptor, text.encode("ascii"))


def _bind(settings: Settings, patience_s: float) -> socket.socket:
    """After a crash the children of the killed supervisor may need a moment to let go of the port."""
    deadline = time.monotonic() + patience_s
    while True:
        try:
            return _listen(settings.host, settings.port)
        except OSError as error:
            if error.errno == errno.EADDRINUSE and time.monotonic() < deadline:
                time.sleep(0.05)
                continue
            raise ServeError(_why_not(settings, error)) from error


def _listen(host: str, port: int) -> socket.socket:
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener


def _why_not(settings: Settings, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"Port {settings.port} of {settings.host} is taken by another program; choose another with --port."
    if error.errno == errno.EACCES:
        return f"Port {settings.port} needs more rights than this user has; choose one above 1023 with --port."
    return f"Cannot listen on {settings.host} port {settings.port}: {error.strerror or error}."
