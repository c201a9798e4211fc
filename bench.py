"""The benchmark, from a clone: python bench.py is python -m causal_conv1d_mps bench."""

import sys

from causal_conv1d_mps.__main__ import main

if __name__ == "__main__":
    sys.argv.insert(1, "bench")
    sys.exit(main())
