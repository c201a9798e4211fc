"""A PyTorch whose private names have moved: the import warns, and everything still works."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import causal_conv1d_mps

PRIVATE = [
    "_C._increment_version",
    "_C._are_functorch_transforms_active",
    "autograd.forward_ad._current_level",
    "_C._AutoDispatchBelowAutograd",
    "_C._after_autograd_keyset",
    "autograd.function._SingleLevelFunction",
    "_C._functorch.get_single_level_autograd_function_allowed",
    "_C._functorch.set_single_level_autograd_function_allowed",
    "_C._is_fwd_grad_enabled",
    "_C._set_fwd_grad_enabled",
]

WITHOUT = """
import operator, sys, warnings
import torch
place, _, name = sys.argv[1].rpartition(".")
place = operator.attrgetter(place)(torch) if place else torch
kept = getattr(place, name)
delattr(place, name)
with warnings.catch_warnings(record=True) as seen:
    warnings.simplefilter("always")
    import causal_conv1d_mps as c
setattr(place, name, kept)  # it has only moved: PyTorch itself finds it
texts = [str(w.message) for w in seen if w.category is RuntimeWarning]
assert len(texts) == 1 and f"torch.{sys.argv[1]}" in texts[0], texts
assert c.native_error is None

from torch.func import grad, jvp, vmap
torch.manual_seed(0)
x, w, b, s = torch.randn(2, 3, 7), torch.randn(3, 4), torch.randn(3), torch.randn(2, 3, 3)
ours = lambda *v: c.causal_conv1d(*v, "silu")
ref = lambda *v: c.causal_conv1d_ref(*v, activation="silu")
ours_s = lambda x, w, b, s: c.causal_conv1d_fn(x, w, b, None, s, True, activation="silu")
ref_s = lambda x, w, b, s: c.causal_conv1d_ref(x, w, b, s, True, activation="silu")
loss = lambda f: lambda *v: sum(r.square().sum() for r in f(*v))
def gradients(f, *values):
    values = [v.clone().requires_grad_() for v in values]
    found = torch.autograd.grad(loss(f)(*values), values, create_graph=True)
    return *found, *torch.autograd.grad(loss(lambda *v: v)(*found), values)
def once(f, *values):
    values = [v.clone().requires_grad_() for v in values]
    return torch.autograd.grad(loss(f)(*values), values)
compiled = lambda f: torch.compile(f, backend="aot_eager")
tangents = lambda f: lambda *v: jvp(f, v, v)
for f, r, v in ((ours, ref, (x, w, b)), (ours_s, ref_s, (x, w, b, s))):
    for way in (
        lambda f: f(*v),
        lambda f: once(f, *v),
        lambda f: gradients(f, *v),
        lambda f: tangents(f)(*v),
        lambda f: grad(loss(f))(*v),
        lambda f: vmap(lambda x: f(x, *v[1:]))(torch.stack([x, 2 * x])),
    ):
        torch.testing.assert_close(way(f), way(r), rtol=1e-4, atol=1e-4)
    with torch.no_grad():
        torch.testing.assert_close(f(*v), r(*v))
v = (x, w, b)
for found, expected in (
    (once(compiled(ours), *v), once(ref, *v)),
    (compiled(tangents(ours))(*v), tangents(ref)(*v)),
    (compiled(grad(loss(ours)))(*v), grad(loss(ref))(*v)),
):
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
state = torch.zeros(2, 3, 4)
c.causal_conv1d_update(x[..., 0], state, w)
assert torch.equal(state[..., -1], x[..., 0])
final = torch.empty(2, 3, 3)
c.causal_conv1d_fn(x, w, b, None, s, True, final)
assert torch.equal(final, x[..., -3:])
"""


@pytest.mark.native_only
@pytest.mark.cpu_only
@pytest.mark.parametrize("name", PRIVATE)
def test_a_private_name_of_pytorch_that_moved(name):
    result = subprocess.run(
        [sys.executable, "-c", WITHOUT, name],
        env={**os.environ, "PYTHONWARNINGS": "default"},
        text=True,
        capture_output=True,
    )
    assert result.returncode == 0, result.stdout + result.stderr


def test_these_are_all_private_names():
    """What the package takes from PyTorch under a private name, it takes through ``_private``,
    but for ``torch._check..``, which PyTorch documents.  The benchmark is left out: no user's call
    runs it, and it sets an option that PyTorch's own error message names."""
    package = Path(causal_conv1d_mps.__file__).parent
    taken = set()
    for path in package.rglob("*.py"):
        if "bench" in path.relative_to(package).parts:
            continue
        text = path.read_text()
        taken |= set(re.findall(r'_private\(\s*"(.*?)"', text))
        assert not re.findall(r"\btorch\.(?:\w+\.)*_(?!_|check)\w+", text), path
    assert taken == set(PRIVATE)
