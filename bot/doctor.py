"""`visavis doctor`: what is there, what is missing, and what to do about it.

Every check looks and touches nothing that lasts; none loads a model. Knows no command line.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from visavis.bot.chat_models import ModelNotFound, model_place
from visavis.bot.embedded_store import StoreError, find_engine
from visavis.bot.preparation import ServeError, check_data_folder
from visavis.bot.settings import Settings
from visavis.models.checkpoint_files import FOREIGN

OPTIONAL = {"train": "pycocoevalcap", "towers": "onnx", "slack": "slack_bolt"}
CPU_FLAGS = ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_bf16", "asimd", "bf16", "i8mm")


class Verdict(StrEnum):
    """How bad it is: only `MISSING` stops visavis."""

    OK = "ok"
    NOTE = "note"
    MISSING = "missing"


@dataclass(frozen=True)
class Finding:
    """One line of the report."""

    subject: str
    verdict: Verdict
    detail: str


async def examine(settings: Settings) -> list[Finding]:
    """All findings, in the order in which a start would meet them."""
    findings = [_python(), *_torch(), _model(settings), _data_folder(settings)]
    findings += [await _store(settings), _port(settings), *_extras()]
    return findings


def is_healthy(findings: list[Finding]) -> bool:
    """Whether `visavis serve` would start."""
    return all(finding.verdict is not Verdict.MISSING for finding in findings)


def _python() -> Finding:
    enough = sys.version_info >= (3, 11)
    detail = f"{platform.python_version()} on {platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    return Finding("Python", Verdict.OK if enough else Verdict.MISSING, detail)


def _torch() -> Iterator[Finding]:
    try:
        import torch
    except ImportError as error:
        yield Finding("torch", Verdict.MISSING, f"cannot be imported ({error}); install visavis again")
        return
    yield Finding("torch", Verdict.OK, f"{torch.__version__}, {torch.get_num_threads()} threads, devices: {_devices()}")
    yield Finding("CPU", Verdict.OK, " ".join(_cpu_flags()) or "no vector extensions were recognised")


def _devices() -> str:
    import torch

    found = ["cpu"]
    found += [f"cuda ({torch.cuda.get_device_name()})"] if torch.cuda.is_available() else []
    found += ["mps"] if torch.backends.mps.is_available() else []
    return ", ".join(found)


def _cpu_flags() -> list[str]:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return [platform.processor()] if platform.processor() else []
    present = {word for line in text.splitlines() if line.startswith(("flags", "Features")) for word in line.split()}
    return [flag for flag in CPU_FLAGS if flag in present]


def _model(settings: Settings) -> Finding:
    try:
        if (place := model_place(settings.model)).startswith(FOREIGN):
            return Finding("model", Verdict.OK, f"{place}, which transformers loads")
        folder = Path(place)
    except ModelNotFound as error:
        return Finding("model", Verdict.MISSING, str(error))
    size = sum(file.stat().st_size for file in folder.glob("*.safetensors")) / 2**20
    return Finding("model", Verdict.OK, f"{settings.model} in {folder} ({size:.0f} MiB of weights)")


def _data_folder(settings: Settings) -> Finding:
    def check() -> str:
        check_data_folder(settings.data_dir)
        return str(settings.data_dir)

    return _finding("data folder", check)


async def _store(settings: Settings) -> Finding:
    if settings.redis_url is not None:
        return await _remote_store(settings.redis_url)

    def check() -> str:
        engine = find_engine()
        return f"embedded {engine.name} {engine.version} ({engine.program})"

    return _finding("store", check)


async def _remote_store(url: str) -> Finding:
    from visavis.dialogue.errors import DialogueError
    from visavis.dialogue.store import open_store

    store = open_store(url)
    try:
        await store.ping()
        return Finding("store", Verdict.OK, "the server of --redis-url answers")
    except DialogueError as error:
        return Finding("store", Verdict.MISSING, f"the server of --redis-url: {error}")
    finally:
        await store.aclose()


def _port(settings: Settings) -> Finding:
    """A port that is taken is often visavis itself, so it is a note and not a fault."""
    try:
        with socket.create_server((settings.host, settings.port)):
            return Finding("port", Verdict.OK, f"{settings.host}:{settings.port} is free")
    except OSError as error:
        return Finding("port", Verdict.NOTE, f"{settings.host}:{settings.port} is not free ({error.strerror})")


def _extras() -> Iterator[Finding]:
    for extra, package in OPTIONAL.items():
        if importlib.util.find_spec(package) is None:
            yield Finding(f"extra {extra}", Verdict.NOTE, f"not installed: pip install 'visavis[{extra}]'")
        else:
            yield Finding(f"extra {extra}", Verdict.OK, f"{package} {_version(package)}")


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "of unknown version"


def _finding(subject: str, check: Callable[[], str]) -> Finding:
    try:
        return Finding(subject, Verdict.OK, check())
    except (ServeError, StoreError) as error:
        return Finding(subject, Verdict.MISSING, str(error))
