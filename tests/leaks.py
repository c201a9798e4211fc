"""Good and bad calls from Python under AddressSanitizer with leak detection.

python tests/leaks.py LIBRARY: LIBRARY is libcausal_conv1d built with -fsanitize=address. PyTorch
and Python leak at exit what they allocate once, so the leaks of a process that makes no call
are compared with those of one that makes many.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

ROOT = Path(__file__).parent.parent
ROUNDS = 1000
CALLS = """
import sys
sys.path[:0] = sys.argv[2:]
import torch, causal_conv1d_mps as c
assert c.native_error is None, c.native_error
from test_errors import BAD, B, W, X
assert c.__file__.startswith(sys.argv[2])
backward = torch.ops.causal_conv1d_mps.backward
for _ in range(int(sys.argv[1])):
    c.causal_conv1d(X, W, B, "silu")
    backward(X.mT.contiguous().mT, X[:, :, :2], X, W, B, None, None, X[:, :, 2:4], True)
    c.causal_conv1d_update(X, X.clone(), W, B, "silu")
    for arguments, _ in BAD.values():
        try:
            c.causal_conv1d(*arguments)
        except ValueError:
            pass
    try:
        backward(X[0], None, X, W, B, None, None, None, True)
    except RuntimeError:
        pass
"""


def leaked(rounds: int, package: Path) -> int:
    """The number of allocations that LeakSanitizer reports at the end of a process."""
    preload = [  # AddressSanitizer looks for the C++ runtime's throw when it starts
        subprocess.check_output(["cc", f"-print-file-name={name}"], text=True).strip()
        for name in ("libasan.so", "libstdc++.so")
    ]
    environment = {
        **os.environ,
        "LD_PRELOAD": " ".join(preload),
        "ASAN_OPTIONS": "detect_leaks=1",
        "PYTHONMALLOC": "malloc",
    }
    paths = [str(package), str(Path(torch.__file__).parent.parent), str(ROOT / "tests")]
    # -S keeps the editable install out, whose import hook would come first.
    command = [sys.executable, "-S", "-c", CALLS, str(rounds), *paths]
    report = subprocess.run(command, env=environment, text=True, capture_output=True).stderr
    summary = re.search(r"SUMMARY: AddressSanitizer: \d+ byte\(s\) leaked in (\d+)", report)
    assert summary, report[:3000]
    return int(summary[1])


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder) / "causal_conv1d_mps"
        ignored = shutil.ignore_patterns("__pycache__")  # where other processes write
        shutil.copytree(ROOT / "causal_conv1d_mps", package, ignore=ignored)
        shutil.copy(sys.argv[1], package / "libcausal_conv1d.so")
        before, after = leaked(0, Path(folder)), leaked(ROUNDS, Path(folder))
    print(f"{before} allocations left after no call, {after} after {ROUNDS} rounds of calls")
    sys.exit(after - before >= ROUNDS)
