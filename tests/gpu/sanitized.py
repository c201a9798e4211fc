"""The self test's cases on an NVIDIA GPU, few enough for compute-sanitizer: ``make gpu-check``.

Every kernel runs, with vectors and without; the exit code is 1 if a result is wrong.
"""

import sys

from causal_conv1d_mps import selftest

DTYPES = {name: selftest.DTYPES[name] for name in ("fp32", "bf16")}

if __name__ == "__main__":
    selftest.DTYPES, selftest.WIDTHS = DTYPES, (4, 9)
    checks = []
    for selftest.DIM, selftest.LENGTHS in ((37, (5, 130)), (64, (8, 512))):
        checks += selftest.check("cuda")
    wrong = [c for c in checks if not c["right"]]
    print(sum(c["cases"] for c in checks), "cases", wrong)
    sys.exit(bool(wrong))
