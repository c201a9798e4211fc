"""Builds the wheel by scikit-build-core, then adds the metadata of ``causal-conv1d`` to it.

Scripts ask ``importlib.metadata`` for the version of that distribution, and packages require it.
Its metadata has no RECORD, so that installers leave it to its owner, which INSTALLER names.
"""

from __future__ import annotations

import base64
import hashlib
import os
import zipfile
from pathlib import Path

from scikit_build_core import build
from scikit_build_core.build import *  # noqa: F403  (the hooks that stay as they are)

_OWNER = "causal-conv1d-mps-compat"


def build_wheel(
    wheel_directory: str,
    config_settings: dict[str, list[str] | str] | None = None,
    metadata_directory: str | None = None,
) -> str:
    """See PEP 517."""
    name = build.build_wheel(wheel_directory, config_settings, metadata_directory)
    _add_metadata(Path(wheel_directory, name))
    return name


def build_editable(
    wheel_directory: str,
    config_settings: dict[str, list[str] | str] | None = None,
    metadata_directory: str | None = None,
) -> str:
    """See PEP 660."""
    name = build.build_editable(wheel_directory, config_settings, metadata_directory)
    _add_metadata(Path(wheel_directory, name))
    return name


def _add_metadata(wheel: Path) -> None:
    """Adds the two files to the wheel and to its RECORD."""
    stem, version = wheel.name.split("-")[:2]
    folder = f"{stem}-{version}.data/purelib/causal_conv1d-{version}.dist-info"
    files = {
        f"{folder}/METADATA": "Metadata-Version: 2.1\nName: causal-conv1d\n"
        f"Version: {version}\nSummary: The interface of causal-conv1d, by causal-conv1d-mps\n",
        f"{folder}/INSTALLER": f"{_OWNER}\n",
    }
    lines = [f"{name},{_digest(text)},{len(text)}\n" for name, text in files.items()]
    copy = wheel.with_suffix(".tmp")
    with zipfile.ZipFile(wheel) as old, zipfile.ZipFile(copy, "w") as new:
        for entry in old.infolist():
            content = old.read(entry)
            if entry.filename.endswith(".dist-info/RECORD"):
                for name, text in files.items():
                    new.writestr(_like(entry, name), text)
                content = "".join(lines).encode() + content
            new.writestr(entry, content)
    os.replace(copy, wheel)


def _digest(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return "sha256=" + base64.urlsafe_b64encode(digest).decode().rstrip("=")


def _like(entry: zipfile.ZipInfo, name: str) -> zipfile.ZipInfo:
    """A member with the date and the mode of another."""
    found = zipfile.ZipInfo(name, entry.date_time)
    found.external_attr, found.compress_type = entry.external_attr, entry.compress_type
    return found
