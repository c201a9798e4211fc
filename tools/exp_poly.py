"""The polynomial of src/cpu/sigmoid.inc.h and the error bound that docs/numerics.md states.

exp(r) on |r| <= ln(2)/2 as 1 + c1 r + ... + c5 r^5, minimax in the relative error, by Lawson's
iteratively reweighted least squares (C. L. Lawson, 1961) in float64; the coefficients are then
rounded to float32. Run: python tools/exp_poly.py (needs numpy).
"""

import numpy as np

DEGREE = 5
HALF = np.log(2) / 2
UNIT = 2.0**-24  # half an ulp of float32, relative

r = HALF * np.cos(np.linspace(0, np.pi, 4001))
basis = np.stack([r**k for k in range(1, DEGREE + 1)], axis=1) / np.exp(r)[:, None]
target = (np.exp(r) - 1) / np.exp(r)
weight = np.ones_like(r)
for _ in range(3000):
    root = np.sqrt(weight)
    c = np.linalg.lstsq(basis * root[:, None], target * root, rcond=None)[0]
    weight *= np.abs(basis @ c - target) + 1e-300
    weight /= weight.sum()

c32 = c.astype(np.float32)
dense = np.linspace(-HALF, HALF, 2_000_001)
poly = 1 + sum(float(ck) * dense ** (k + 1) for k, ck in enumerate(c32))
error = np.abs(poly / np.exp(dense) - 1).max()
for k, ck in enumerate(c32):
    print(f"c{k + 1} = {float(ck).hex()}f /* {ck:.9g} */")
print(f"relative error of the polynomial: {error:.3e} = {error / UNIT:.2f} units of 2^-24")


def remainder(powers: int) -> None:
    """Degree 2 for |r| <= ln(2) / (2 powers), c0 held to 1, and the table of 2^(j / powers), less
    what is added back with j << (23 - log2(powers))."""
    h = HALF / powers
    x = h * np.cos(np.linspace(0, np.pi, 2001))
    columns = np.stack([x / np.exp(x), x**2 / np.exp(x)], axis=1)
    rest, w = 1 - np.exp(-x), np.ones_like(x)
    for _ in range(3000):
        root = np.sqrt(w)
        c = np.linalg.lstsq(columns * root[:, None], rest * root, rcond=None)[0]
        w *= np.abs(columns @ c - rest) + 1e-300
        w /= w.sum()
    c1, c2 = c.astype(np.float32)
    x = np.linspace(-h, h, 200_001)
    error = np.abs((1 + float(c1) * x + float(c2) * x**2) / np.exp(x) - 1).max()
    shift = 23 - int(np.log2(powers))
    table = (2 ** (np.arange(powers) / powers)).astype(np.float32).view(np.uint32)
    print(f"{powers} powers: c1 = {float(c1).hex()}f, c2 = {float(c2).hex()}f, error {error:.2e}")
    print(", ".join(f"0x{b - (j << shift):08x}" for j, b in enumerate(table.tolist())))


remainder(32)
remainder(8)
ln2_hi = np.float32(float.fromhex("0x1.62e4p-1"))
ln2_lo = np.float32(np.log(2) - float(ln2_hi))
print(f"ln2_hi = {float(ln2_hi).hex()}f, ln2_lo = {float(ln2_lo).hex()}f")
