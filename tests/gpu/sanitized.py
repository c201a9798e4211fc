"""The self test's cases on an NVIDIA GPU, few enough for compute-sanitizer: ``make gpu-check``.

Every kernel runs, with vectors and without; the exit code is 1 if a result is wrong.
"""

import sys

from causal_conv1d_mps import selftest

# Single elements in float32, the general width, vectors in bfloat16: dtype, width, dim, seqlen.
CASES = (("fp32", 4, 5, 70), ("fp32", 9, 3, 20), ("bf16", 4, 64, 512), ("bf16", 33, 35, 130))

if __name__ == "__main__":
    checks, dtypes = [], selftest.DTYPES
    for dtype, width, dim, seqlen in CASES:
        selftest.DTYPES, selftest.WIDTHS = {dtype: dtypes[dtype]}, (width,)
        selftest.DIM, selftest.LENGTHS = dim, (seqlen,)
        checks += selftest.check("cuda")
    wrong = [c for c in checks if not c["right"]]
    print(sum(c["cases"] for c in checks), "cases", wrong)
    sys.exit(bool(wrong))
