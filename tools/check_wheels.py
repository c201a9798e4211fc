"""Checks every wheel that tools/wheels.py made, without the systems they are for.

    python tools/check_wheels.py build/wheels/*.whl

Linux: what auditwheel says of its symbols.  Windows: what the DLL imports and exports.  macOS is
check_macos.py's.  All: what lies inside, and that two builds of a wheel have the same bytes if
``--again`` names a folder with the other ones.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import lief
from rich.console import Console
from wheels import MAX_BYTES, ROOT

INSIDE = {
    "causal_conv1d_mps/causal_conv1d.h": ROOT / "include/causal_conv1d.h",
    "causal_conv1d_mps/causal_conv1d.metal": ROOT / "src/gpu/causal_conv1d.metal",
    "causal_conv1d_mps/bench.py": ROOT / "bench.py",
    "causal_conv1d_mps/__main__.py": ROOT / "causal_conv1d_mps/__main__.py",
    "licenses/LICENSE": ROOT / "LICENSE",
}
# What every Windows 10 has: the universal C runtime, and the kernel.
WINDOWS = re.compile(r"api-ms-win-crt-[a-z]+-l1-1-0\.dll|kernel32\.dll|ntdll\.dll", re.I)


def content_problems(wheel: Path) -> list[str]:
    """Size and files."""
    problems = []
    if wheel.stat().st_size > MAX_BYTES:
        problems.append(f"has {wheel.stat().st_size:,} bytes, more than {MAX_BYTES:,}")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        for end, source in INSIDE.items():
            found = [name for name in names if name.endswith(end)]
            if len(found) != 1 or archive.read(found[0]) != source.read_bytes():
                problems.append(f"has no {source.relative_to(ROOT)} as it is now")
    libraries = [name for name in names if name.endswith((".so", ".dylib", ".dll"))]
    if len(libraries) != 1:
        problems.append(f"has the libraries {libraries}")
    return problems


def linux_problems(wheel: Path) -> list[str]:
    """What auditwheel finds to be newer than the tag."""
    command = [sys.executable, "-m", "auditwheel", "show", str(wheel)]
    text = " ".join(subprocess.check_output(command, text=True).split())
    (tag,) = re.findall(r"manylinux_2_17_\w+(?=\.whl is consistent)", text) or [""]
    if f'consistent with the following platform tag: "{tag}"' not in text or not tag:
        return [text]
    return []


def declared() -> set[str]:
    """The functions of the header."""
    text = (ROOT / "include/causal_conv1d.h").read_text()
    return set(re.findall(r"^(?:CAUSAL_CONV1D_API [^(\n]*?)?\*?(causal_conv1d_\w+)\(", text, re.M))


def windows_problems(wheel: Path) -> list[str]:
    """Imports that a plain Windows lacks, exports that are missing or too many."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dll"))
        binary = lief.PE.parse(list(archive.read(name)))
    problems = [f"imports {i.name}" for i in binary.imports if not WINDOWS.fullmatch(i.name)]
    exports = {entry.name for entry in binary.get_export().entries}
    wanted = declared() | {"causal_conv1d_torch_register"}
    if binary.header.machine != lief.PE.Header.MACHINE_TYPES.AMD64:
        problems.append(f"is for {binary.header.machine}")
    return problems + [f"exports wrongly or not: {name}" for name in sorted(exports ^ wanted)]


def main() -> int:
    """Prints what is wrong; 1 if anything is."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("wheels", nargs="+", type=Path)
    parser.add_argument("--again", type=Path, help="a folder with a second build of each")
    args = parser.parse_args()
    console, wrong = Console(width=120, highlight=False, markup=False), False
    for wheel in args.wheels:
        problems = content_problems(wheel)
        if "manylinux" in wheel.name:
            problems += linux_problems(wheel)
        if "win_amd64" in wheel.name:
            problems += windows_problems(wheel)
        if args.again and (args.again / wheel.name).read_bytes() != wheel.read_bytes():
            problems.append("has other bytes the second time")
        console.print(f"{wheel.name}: {'; '.join(problems) or 'right'}")
        wrong |= bool(problems)
    return int(wrong)


if __name__ == "__main__":
    sys.exit(main())
