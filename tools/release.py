"""Makes what a release consists of: python tools/release.py [--out dist]

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


def main() -> int:
    """Builds and checks; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "dist")
    out = parser.parse_args().out.resolve()
    header = (ROOT / "include/causal_conv1d.h").read_text()
    (version,) = re.findall(r'define CAUSAL_CONV1D_VERSION "(.*)"', header)
    text = notes(version)
    shutil.rmtree(out, ignore_errors=True)
    python = [sys.executable, "-m"]
    subprocess.run(
        [*python, "build", "--sdist", "--no-isolation", f"--outdir={out}", ROOT], check=True
    )
    build = ROOT / "build/wheels"
    for platform in wheels.TARGETS:
        shutil.copy(wheels.build(platform, build), out)
    files = sorted(out.iterdir())
    built = [file for file in files if file.suffix == ".whl"]
    mac = [file for file in built if "macosx" in file.name]
    subprocess.run([sys.executable, ROOT / "tools/check_wheels.py", *built], check=True)
    subprocess.run([sys.executable, ROOT / "tools/check_macos.py", *mac], check=True)
    subprocess.run([*python, "twine", "check", "--strict", *files], check=True)
    (out / "SHA256SUMS").write_text(sums(files))
    (out / "notes.md").write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
