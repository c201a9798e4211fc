"""Builds the wheel of every platform on Linux, with Zig (PyPI ``ziglang``) as the C compiler.

    python tools/wheels.py [--out build/wheels] [macosx_13_0_arm64 ...]

CMakeLists.txt is what says how to compile and pyproject.toml what goes in: this only names the
compiler's target and the wheel's tag.  The same sources give the same bytes, wherever they lie.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import NamedTuple

import zopfli
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / "build/zig"
MAX_BYTES = 1_000_000


class Target(NamedTuple):
    """What Zig and CMake call a platform."""

    triple: str
    system: str
    processor: str


# By the platform tag of the wheel, whose version is that of the oldest macOS or glibc to run on.
TARGETS = {
    "manylinux_2_17_x86_64": Target("x86_64-linux-gnu.2.17", "Linux", "x86_64"),
    "manylinux_2_17_aarch64": Target("aarch64-linux-gnu.2.17", "Linux", "aarch64"),
    "macosx_13_0_arm64": Target("aarch64-macos.13.0", "Darwin", "arm64"),
    "win_amd64": Target("x86_64-windows-gnu", "Windows", "AMD64"),
}


def zig(*arguments: str) -> list[str]:
    """The command that runs Zig."""
    return [sys.executable, "-m", "ziglang", *arguments]


def environment(objects: Path = CACHE) -> dict[str, str]:
    """For Zig, which keeps what it compiled in ``objects`` and its own libraries in ``CACHE``."""
    return {
        **os.environ,
        "ZIG_GLOBAL_CACHE_DIR": str(CACHE),
        "ZIG_LOCAL_CACHE_DIR": str(objects),
    }


def repack(wheel: Path) -> None:
    """Gives the files of a wheel one mode: theirs follow the umask of whoever checked them out.

    Zopfli writes the same format as zlib, 4 % smaller, and the same bytes with every Python.
    """
    with zipfile.ZipFile(wheel) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    with zopfli.ZipFile(wheel, "w") as archive:
        for name, data in files.items():
            entry = zipfile.ZipInfo(name)  # of 1980, where the times of zip begin
            entry.external_attr = 0o100644 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, data)


def build(platform: str, out: Path, objects: Path = CACHE) -> Path:
    """Writes the wheel for a key of ``TARGETS`` to ``out``, built in a folder there.

    Raises subprocess.CalledProcessError if it does not build, ValueError if it is too large.
    """
    target = TARGETS[platform]
    tag = f"py3-none-{platform}"
    settings = {
        "build-dir": out / platform,
        "cmake.define.CMAKE_SYSTEM_NAME": target.system,
        "cmake.define.CMAKE_SYSTEM_PROCESSOR": target.processor,
        "install.strip": "false",  # the linker does: this system's strip knows only its own files
        "wheel.tags": tag,
    }
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check"]
    command += ["--no-deps", "--no-build-isolation", f"--wheel-dir={out}", str(ROOT)]
    command += [f"--config-settings={key}={value}" for key, value in settings.items()]
    compiler = {
        "CC": " ".join(zig("cc", "-target", target.triple)),
        "CFLAGS": f"-g0 -ffile-prefix-map={ROOT}=.",
        "LDFLAGS": "-s",
        "SOURCE_DATE_EPOCH": "315532800",  # 1980
    }
    for old in out.glob(f"*-{tag}.whl"):
        old.unlink()
    subprocess.run(command, env=environment(objects) | compiler, check=True)
    (wheel,) = out.glob(f"*-{tag}.whl")
    repack(wheel)
    if wheel.stat().st_size > MAX_BYTES:
        raise ValueError(f"{wheel} has {wheel.stat().st_size} bytes, more than {MAX_BYTES}")
    return wheel


def main() -> None:
    """Builds what the command line names and says what came out."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("platforms", nargs="*", metavar="platform", help=", ".join(TARGETS))
    parser.add_argument("--out", type=Path, default=ROOT / "build/wheels")
    args = parser.parse_args()
    if unknown := set(args.platforms) - set(TARGETS):
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    table = Table("wheel", "bytes", "sha256")
    for platform in args.platforms or TARGETS:
        wheel = build(platform, args.out.resolve())
        digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
        table.add_row(wheel.name, f"{wheel.stat().st_size:,}", digest[:16])
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
