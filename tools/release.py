"""Makes what a release consists of: python tools/release.py [--out dist] [--unchecked]

The sdist and every platform's wheel, checked; SHA256SUMS; and notes.md, the version's entry in
CHANGELOG.md.  It publishes nothing: .github/workflows/release.yml would.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

import wheels

ROOT = wheels.ROOT


def notes(version: str) -> str:
    """The entry of a version in the changelog; ValueError if there is none."""
    text = (ROOT / "CHANGELOG.md").read_text()
    match = re.search(rf"^## {re.escape(version)}\n(.*?)(?=^## |\Z)", text, re.M | re.S)
    if not match or not match[1].strip():
        raise ValueError(f"CHANGELOG.md has no entry for {version}")
    return match[1].strip() + "\n"


def sums(files: list[Path]) -> str:
    """As sha256sum -c reads them."""
    return "".join(f"{hashlib.sha256(f.read_bytes()).hexdigest()}  {f.name}\n" for f in files)


def build(out: Path) -> list[Path]:
    """The sdist and the wheels."""
    # In the sdist, so that `cc src/*.c src/*/*.c` builds it.
    subprocess.run(["make", "--silent", "src/gpu/source.c"], cwd=ROOT, check=True)
    command = [sys.executable, "-m", "build", "--sdist", "--no-isolation", f"--outdir={out}", ROOT]
    subprocess.run(command, check=True)
    for platform in wheels.TARGETS:
        shutil.copy(wheels.build(platform, ROOT / "build/wheels"), out)
    return sorted(out.iterdir())


def check(files: list[Path]) -> None:
    """Raises subprocess.CalledProcessError if one is wrong."""
    built = [file for file in files if file.suffix == ".whl"]
    mac = [file for file in built if "macosx" in file.name]
    for command in (
        [ROOT / "tools/check_wheels.py", *built],
        [ROOT / "tools/check_macos.py", *mac],
        ["-m", "twine", "check", "--strict", *files],
    ):
        subprocess.run([sys.executable, *command], check=True)


def main() -> int:
    """Builds and checks; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "dist")
    parser.add_argument("--unchecked", action="store_true", help="as make reproduce checks enough")
    args = parser.parse_args()
    out = args.out.resolve()
    header = (ROOT / "include/causal_conv1d.h").read_text()
    (version,) = re.findall(r'define CAUSAL_CONV1D_VERSION "(.*)"', header)
    text = notes(version)
    shutil.rmtree(out, ignore_errors=True)
    files = build(out)
    if not args.unchecked:
        check(files)
    (out / "SHA256SUMS").write_text(sums(files))
    (out / "notes.md").write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
