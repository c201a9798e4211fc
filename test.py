"""Runs the whole test suite: python test.py [pytest arguments]."""

import sys

import pytest

if __name__ == "__main__":
    sys.exit(pytest.main(sys.argv[1:] or ["tests"]))
