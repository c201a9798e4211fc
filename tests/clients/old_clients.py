"""Runs the layers of older clients as they are, on the CPU:
python tests/clients/old_clients.py FOLDER...

A folder holds a package ``mamba_ssm``: that of mamba-ssm 1.1 to 2.3, or of Vision Mamba. Triton is
a stub, and the scans are PyTorch's. The layer's own fast path, which calls us, must give the output
and the gradients of its slow path, in which the convolution is ``F.conv1d``. Needs einops.
"""

import importlib
import inspect
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace
from unittest.mock import MagicMock

import torch
import torch.nn.functional as F

import causal_conv1d_mps

BATCH, SEQLEN, DIM = 2, 19, 32
COUNTS: dict[str, int] = {}


def stub(name, **members):
    sys.modules[name] = MagicMock(name=name, **members)


class Scan(ModuleType):
    """``selective_scan_cuda`` by the file's own ``selective_scan_ref``."""

    reference = None

    def fwd(self, u, delta, a, b, c, d, z, bias, softplus):
        out, state = self.reference(u, delta, a, b, c, d, None, bias, softplus, True)
        x = state.new_zeros(*state.shape[:2], 1, 2 * state.shape[2])
        x[:, :, -1, 1::2] = state
        return (out, x) if z is None else (out, x, out * F.silu(z))

    def bwd(self, u, delta, a, b, c, d, z, bias, dout, x, out, dz, softplus, recompute):
        given = [u, delta, a, b, c, d, bias, z]
        inputs = [t if t is None else t.detach().requires_grad_() for t in given]
        with torch.enable_grad():
            result = self.reference(*inputs[:6], inputs[7], inputs[6], softplus)
        found = iter(torch.autograd.grad(result, [t for t in inputs if t is not None], dout))
        *gradients, found_dz = [None if t is None else next(found) for t in inputs]
        if z is None:
            return gradients
        dz = found_dz if dz is None else dz.copy_(found_dz)
        return [*gradients, dz, result.detach()] if recompute else [*gradients, dz]


def chunk_scan(
    x, dt, A, B, C, chunk_size, D, z=None, dt_bias=None, seq_idx=None, dt_softplus=False,
    return_final_states=False, **_,
):  # fmt: skip
    """The scan of Mamba-2, step by step."""
    B, C = (t.repeat_interleave(x.shape[2] // t.shape[2], 2) for t in (B, C))
    if dt_softplus:
        dt = F.softplus(dt + dt_bias)
    state, outs = 0, []
    for t in range(x.shape[1]):
        if seq_idx is not None and t > 0:
            state = state * (seq_idx[:, t] == seq_idx[:, t - 1])[:, None, None, None]
        decay = torch.exp(dt[:, t] * A)[..., None, None]
        state = state * decay + torch.einsum("bh,bhp,bhn->bhpn", dt[:, t], x[:, t], B[:, t])
        outs.append(torch.einsum("bhpn,bhn->bhp", state, C[:, t]))
    out = torch.stack(outs, 1) + x * (D[:, None] if D.dim() == 1 else D)
    out = out if z is None else out * F.silu(z)
    return (out, state) if return_final_states else out


def gradients_of(function, inputs, dout):
    inputs = [t if t is None else t.detach().requires_grad_() for t in inputs]
    with torch.enable_grad():
        out = function(*inputs)
    found = iter(torch.autograd.grad(out, [t for t in inputs if t is not None], dout))
    return [None if t is None else next(found) for t in inputs], out.detach()


def chunk_scan_fwd(x, dt, A, B, C, chunk_size, z=None, **options):
    out_x = chunk_scan(x, dt, A, B, C, chunk_size, **options)
    return (out_x if z is None else out_x * F.silu(z), out_x, None, None, None, None)


def chunk_scan_bwd(
    dout, x, dt, A, B, C, out, chunk_size, D=None, z=None, dt_bias=None, seq_idx=None,
    dx=None, ddt=None, dB=None, dC=None, dz=None, recompute_output=False, **_,
):  # fmt: skip
    def scan(x, dt, A, B, C, D, z, dt_bias):
        return chunk_scan(x, dt, A, B, C, chunk_size, D, z, dt_bias, seq_idx, dt_softplus=True)

    found, out = gradients_of(scan, (x, dt, A, B, C, D, z, dt_bias), dout)
    for place, given in ((0, dx), (1, ddt), (3, dB), (4, dC), (6, dz)):
        if given is not None:
            found[place] = given.copy_(found[place])
    return [*found, None, out] if recompute_output else [*found, None]


def norm_functions(reference):
    """``_layer_norm_fwd`` and ``_layer_norm_bwd`` of the gated norm."""

    def fwd(x, weight, bias, eps, z=None, out=None, group_size=None, norm_before_gate=True, **_):
        found = reference(x, weight, bias, z, eps, group_size, norm_before_gate)
        return (found if out is None else out.copy_(found)), None, None

    def bwd(
        dy, x, weight, bias, eps, mean, rstd, z=None, group_size=None, norm_before_gate=True,
        is_rms_norm=True, recompute_output=False, dz=None, out=None,
    ):  # fmt: skip
        def norm(x, weight, bias, z):
            return reference(x, weight, bias, z, eps, group_size, norm_before_gate)

        (dx, dweight, dbias, found), found_out = gradients_of(norm, (x, weight, bias, z), dy)
        dz = dz.copy_(found) if dz is not None else found
        if out is not None:
            found_out = out.copy_(found_out)
        return (dx, dweight, dbias, dz, found_out) if recompute_output else (dx, dweight, dbias, dz)

    return fwd, bwd


def plain_convolution(x, weight, bias=None, activation=None, seq_idx=None):
    width = weight.shape[1]
    pieces = [x]
    if seq_idx is not None:  # the same sequences in every row
        pieces = x.split(torch.unique_consecutive(seq_idx[0], return_counts=True)[1].tolist(), 2)
    weight = weight[:, None]
    convolved = [
        F.conv1d(F.pad(p, (width - 1, 0)), weight, bias, groups=len(weight)) for p in pieces
    ]
    out = torch.cat(convolved, 2)
    return out if activation is None else F.silu(out)


def counted(module, name):
    """Counts the calls of a function of ours in a client's module."""
    function = getattr(module, name)
    if hasattr(function, "is_counted"):
        return

    def call(*arguments, **keywords):
        COUNTS[name] = COUNTS.get(name, 0) + 1
        return function(*arguments, **keywords)

    call.is_counted = True
    setattr(module, name, call)


def run(layer, x, **options):
    x = x.detach().requires_grad_()
    out = layer(x, **options)
    dout = torch.linspace(-1, 1, out.numel()).view_as(out)
    wanted = [x, *layer.parameters()]
    found = torch.autograd.grad(out, wanted, dout, allow_unused=True)
    return [out.detach(), *found]


def compare(name, fast, slow):
    """Prints the largest difference of a fast and a slow path, and how often we were called."""
    COUNTS.clear()
    actual, calls = fast(), dict(COUNTS)
    COUNTS.clear()
    expected = slow()
    assert calls and not COUNTS, f"{name}: fast {calls}, slow {COUNTS}"
    for a, e in zip(actual, expected, strict=True):
        assert (a is None) == (e is None), name
        if a is not None:
            torch.testing.assert_close(a, e, rtol=2e-5, atol=2e-5 * max(1, e.abs().max().item()))
    worst = max(
        ((a - e).abs().max() / e.abs().max()).item()
        for a, e in zip(actual, expected, strict=True)
        if a is not None
    )
    calls = " ".join(f"{key.removeprefix('causal_conv1d_')}:{n}" for key, n in calls.items())
    print(f"  {name:34} {len(actual):3} tensors, {worst:.1e} off  ({calls})", flush=True)


class Patched:
    """Sets names of modules for the time of a block."""

    def __init__(self, **names):
        self.names = names

    def __enter__(self):
        self.old = []
        for place, value in self.names.items():
            for module in [m for n, m in sys.modules.items() if n.startswith("mamba_ssm.")]:
                if hasattr(module, place):
                    self.old.append((module, place, getattr(module, place)))
                    setattr(module, place, value)

    def __exit__(self, *_):
        for module, place, value in self.old:
            setattr(module, place, value)


def decode(layer, x):
    """Prefill, then steps: outputs and states."""
    states = SimpleNamespace(seqlen_offset=0, key_value_memory_dict={}, max_seqlen=SEQLEN)
    states.batch_size_offset, states.lengths_per_sample = 0, None
    with torch.no_grad():
        outs = [layer(x[:, :11], inference_params=states)]
        for t in range(11, SEQLEN):
            states.seqlen_offset = t
            outs.append(layer(x[:, t : t + 1], inference_params=states))
    return [torch.cat(outs, 1), *states.key_value_memory_dict[0]]


def references(interface, kind):
    """The file's own references of its fused functions, over a plain convolution."""

    def without_projection(xz, weight, bias, x_proj, dt_proj, *others, **keywords):
        eye = torch.eye(weight.shape[0])
        out = interface.mamba_inner_ref(
            xz, weight, bias, x_proj, dt_proj, eye, None, *others, **keywords
        )
        return out.transpose(1, 2)

    def scan(u, delta, A, B, C, D, z, *others, **keywords):
        # Vision Mamba's backward of v1 leaves out what reaches z by the reversed scan.
        if kind == "v1" and z._base is None:  # flipped, not a half of xz
            z = z.detach()
        return interface.selective_scan_ref(u, delta, A, B, C, D, z, *others, **keywords)

    return Patched(
        causal_conv1d_fn=plain_convolution,
        selective_scan_fn=scan,
        mamba_inner_fn=interface.mamba_inner_ref,
        mamba_inner_fn_no_out_proj=without_projection,
        bimamba_inner_fn=getattr(interface, "bimamba_inner_ref", None),
    )


def mamba_1(interface, simple, x):
    """Mamba, and the three kinds of Vision Mamba's."""
    is_vision = "bimamba_type" in inspect.signature(simple.Mamba).parameters
    for kind in ("none", "v1", "v2") if is_vision else (None,):
        options = {} if kind is None else {"bimamba_type": kind}
        layer = simple.Mamba(DIM, layer_idx=0, **options)
        title = " ".join(["Mamba", *options.values()])

        def under(patch, function=run, layer=layer):
            with patch:
                return function(layer, x)

        fast, slow = partial(run, layer, x), partial(under, references(interface, kind))
        compare(f"{title}, fused", fast, slow)
        if kind is None:  # calls causal_conv1d_fn, in 1.1 by position
            reference = Patched(mamba_inner_fn=interface.mamba_inner_ref)
            compare(f"{title}, mamba_inner_ref", partial(under, reference), slow)
        layer.use_fast_path = False
        plain = Patched(causal_conv1d_fn=None, causal_conv1d_update=None)
        compare(f"{title}, use_fast_path=False", fast, partial(under, plain))
        compare(f"{title}, decoding", partial(decode, layer, x), partial(under, plain, decode))


def mamba_2(name, x):
    combined = importlib.import_module("mamba_ssm.ops.triton.ssd_combined")
    gated = importlib.import_module("mamba_ssm.ops.triton.layernorm_gated")
    fwd, bwd = norm_functions(gated.rms_norm_ref)
    combined._mamba_chunk_scan_combined_fwd = chunk_scan_fwd
    combined._mamba_chunk_scan_combined_bwd = chunk_scan_bwd
    combined._layer_norm_fwd, combined._layer_norm_bwd = fwd, bwd
    gated.rmsnorm_fn = gated.rms_norm_ref
    module = importlib.import_module(f"mamba_ssm.modules.{name}")
    module.mamba_chunk_scan_combined = chunk_scan
    layer_class = getattr(module, {"mamba2": "Mamba2", "mamba2_simple": "Mamba2Simple"}[name])
    for function in ("causal_conv1d_fwd_function", "causal_conv1d_bwd_function"):
        if hasattr(combined, function):
            counted(combined, function)
    counted(module, "causal_conv1d_fn")
    seq_idx = torch.tensor([[0] * 7 + [1] * (SEQLEN - 7)] * BATCH, dtype=torch.int32)
    for case in [{}, {"rmsnorm": False}] if name == "mamba2" else [{}]:
        layer = layer_class(DIM, d_state=8, headdim=16, layer_idx=0, **case)
        title = " ".join([layer_class.__name__, *(f"{k}={v}" for k, v in case.items())])

        def unfused(plain=None, function=run, layer=layer, **options):
            """use_mem_eff_path=False, with ours or, plain being given, without."""
            layer.use_mem_eff_path = False
            names = {"causal_conv1d_fn": plain[0], "causal_conv1d_update": None} if plain else {}
            with Patched(**names):
                out = function(layer, x, **options)
            layer.use_mem_eff_path = True
            return out

        def fused(layer=layer, **options):
            return run(layer, x, **options)

        compare(f"{title}, fused", fused, partial(unfused, [None]))
        compare(f"{title}, use_mem_eff_path=False", unfused, partial(unfused, [None]))
        if name == "mamba2":  # the other's slow path convolves across sequences
            packed = {"seq_idx": seq_idx}
            slow = partial(unfused, [plain_convolution], **packed)
            compare(f"{title}, fused, seq_idx", partial(fused, **packed), slow)
            counted(module, "causal_conv1d_update")
            module.selective_state_update = None
            own = partial(unfused, [None], decode)
            compare(f"{title}, decoding", partial(unfused, function=decode), own)


def check(folder):
    causal_conv1d_mps.install()
    torch.manual_seed(0)
    stub(
        "triton",
        __version__="3.0.0",
        Config=lambda kwargs, **_: SimpleNamespace(kwargs=kwargs, num_warps=1),
        autotune=lambda configs, **_: lambda kernel: SimpleNamespace(configs=configs),
    )
    stub("triton.language")
    sys.modules["huggingface_hub"] = SimpleNamespace(PyTorchModelHubMixin=type("Mixin", (), {}))
    scan = sys.modules["selective_scan_cuda"] = Scan("selective_scan_cuda")
    package = sys.modules["mamba_ssm"] = ModuleType("mamba_ssm")  # its __init__ imports models
    package.__path__ = [str(Path(folder) / "mamba_ssm")]
    interface = importlib.import_module("mamba_ssm.ops.selective_scan_interface")
    scan.reference = interface.selective_scan_ref
    simple = importlib.import_module("mamba_ssm.modules.mamba_simple")
    simple.selective_state_update = None  # Triton's; the layer has it in PyTorch as well
    x = torch.randn(BATCH, SEQLEN, DIM)
    extension = sys.modules["causal_conv1d_cuda"]
    for name in ("causal_conv1d_fwd", "causal_conv1d_bwd"):
        counted(extension, name)
        if hasattr(interface, f"{name}_function"):
            counted(interface, f"{name}_function")
    for module in (interface, simple):
        counted(module, "causal_conv1d_fn")
    counted(simple, "causal_conv1d_update")
    mamba_1(interface, simple, x)
    for name in ("mamba2", "mamba2_simple"):
        if (Path(folder) / f"mamba_ssm/modules/{name}.py").exists():
            mamba_2(name, x)


def main(folders):
    if not folders:
        print("nothing to run: no folder given")
        return 0
    if len(folders) == 1:
        check(folders[0])
        return 0
    codes = []
    for folder in folders:
        print(folder, flush=True)
        codes.append(subprocess.call([sys.executable, "-W", "ignore", __file__, folder]))
    return max(codes)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
