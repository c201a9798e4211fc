"""Runs the whole test suite, on the CPU and on the GPU if there is one: python test.py [pytest
arguments]. With --device, --emulated or --fallback among them it runs
there alone."""

import subprocess
import sys

import torch


def main(arguments: list[str]) -> int:
    devices = ["cpu"]
    if torch.backends.mps.is_available():
        devices.append("mps")
    if torch.cuda.is_available():
        devices.append("cuda")
    runs = [["--device", device] for device in devices]
    if any(a.startswith("--device") or a in ("--emulated", "--fallback") for a in arguments):
        runs = [[]]
    codes = []
    for run in runs:
        # A process each: the device is chosen before the tests are imported.
        code = subprocess.call([sys.executable, "-m", "pytest", *run, *arguments])
        # 5: nothing to run, as what was asked for is about the CPU alone.
        codes.append(0 if code == 5 and codes else code)
    return max(codes)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
