"""The benchmark, from a clone: python bench.py --help, as python -m causal_conv1d_mps bench."""

import sys

from causal_conv1d_mps.bench import main

if __name__ == "__main__":
    sys.exit(main())
