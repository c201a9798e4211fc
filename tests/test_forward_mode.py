"""Tangents and the transforms of torch.func: equal to those of F.conv1d, in float64.

F.conv1d over columns that stand before x serves as reference; where sequences meet, the definitions
of reference.py do.
"""

import pytest
import torch
import torch.autograd.forward_ad as fwAD
import torch.nn.functional as F
from numerics import DEVICE, make
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, jvp, linearize, vjp, vmap

from causal_conv1d_mps import (
    CausalConv1d,
    causal_conv1d,
    causal_conv1d_fn,
    causal_conv1d_ref,
    causal_conv1d_varlen_fn,
    causal_conv1d_varlen_states,
)
from causal_conv1d_mps.reference import causal_conv1d_varlen_ref

B, D, T = 2, 3, 7
IDS = torch.tensor([[0, 0, 1, 1, 1, -1, 2], [-1, 3, 3, 3, 0, 0, 0]])
CUTS = torch.tensor([0, 3, 3, 7])
DTYPE = torch.float32 if DEVICE.is_gpu else torch.float64
TOLERANCE = {"rtol": 1e-5, "atol": 1e-4 if DEVICE.is_gpu else 1e-11}

WIDTHS = pytest.mark.parametrize("width", [1, 2, 4, 9])
ACTIVATIONS = pytest.mark.parametrize("activation", [None, "silu"])
KINDS = pytest.mark.parametrize("kind", ["plain", "bare", "states", "final", "ids", "packed"])


def close(actual, expected):
    """To 1e-5, in float32 of the largest value: terms of a sum may cancel."""
    if isinstance(expected, (tuple, list)) and DEVICE.is_gpu:
        assert len(actual) == len(expected)
        for pair in zip(actual, expected, strict=True):
            close(*pair)
        return
    tolerance = dict(TOLERANCE)
    if DEVICE.is_gpu and expected.numel():
        tolerance["atol"] = max(1e-4, 1e-5 * expected.detach().abs().max().item())
    torch.testing.assert_close(actual, expected, **tolerance)


def by_conv1d(x, weight, bias, states, activation):
    """Out and final states by F.conv1d."""
    columns = torch.cat([states, x], dim=2)
    out = F.conv1d(columns, weight[:, None], bias, groups=weight.shape[0])
    out = F.silu(out) if activation else out
    return out, columns[:, :, x.shape[2] :]


def case(kind, width, activation):
    """Ours, its reference, and the variables of both: x, weight, bias, states, or fewer."""
    rows = 3 if kind == "packed" else B
    sizes = [(1 if kind == "packed" else B, D, T), (D, width), (D,), (rows, D, width - 1)]
    given = {"plain": 3, "bare": 2}.get(kind, 4)
    variables = tuple(torch.randn(*size, dtype=DTYPE) for size in sizes[:given])
    none = (None,) * (4 - given)
    options = {"activation": activation}

    def ours(*values):
        x, weight, bias, states = (*values, *none)
        if kind == "packed":
            return causal_conv1d_varlen_fn(x, weight, bias, CUTS, states, True, activation)
        if kind in ("plain", "bare"):
            return (causal_conv1d(x, weight, bias, activation),)
        ids = IDS if kind == "ids" else None
        results = causal_conv1d_fn(x, weight, bias, ids, states, kind == "final", **options)
        return results if kind == "final" else (results,)

    def reference(*values):
        x, weight, bias, states = (*values, *none)
        if kind == "packed":
            return causal_conv1d_varlen_ref(x, weight, bias, CUTS, states, activation)
        if kind == "ids":
            return (causal_conv1d_ref(x, weight, bias, states, seq_idx=IDS, **options),)
        states = x.new_zeros(B, D, width - 1) if states is None else states
        return by_conv1d(x, weight, bias, states, activation)[: 2 if kind == "final" else 1]

    return ours, reference, variables


def parts(variables):
    """Every variable alone, and all together."""
    count = len(variables)
    return [(i,) for i in range(count)] + [tuple(range(count))]


def of_some(function, variables, some):
    """function of these variables alone."""

    def reduced(*values):
        given = dict(zip(some, values, strict=True))
        return function(*(given.get(i, v) for i, v in enumerate(variables)))

    return reduced


def scalar(function):
    return lambda *values: sum(result.square().sum() for result in function(*values))


def dual_tangents(function, values, tangents):
    with fwAD.dual_level():
        results = function(*map(fwAD.make_dual, values, tangents))
        found = map(fwAD.unpack_dual, results)
        # Plain PyTorch has none where nothing depends on what has one.
        return tuple(torch.zeros_like(p) if t is None else t for p, t in found)


@WIDTHS
@ACTIVATIONS
@KINDS
def test_tangents(kind, activation, width):
    ours, reference, variables = case(kind, width, activation)
    for some in parts(variables):
        values = tuple(variables[i] for i in some)
        tangents = tuple(map(torch.randn_like, values))
        mine, theirs = (of_some(f, variables, some) for f in (ours, reference))
        out, expected = jvp(theirs, values, tangents)
        close(jvp(mine, values, tangents), (out, expected))
        close(dual_tangents(mine, values, tangents), expected)
        with torch.no_grad():
            close(jvp(mine, values, tangents)[1], expected)
            close(dual_tangents(mine, values, tangents), expected)
        wanting = tuple(v.clone().requires_grad_() for v in values)
        close(dual_tangents(mine, wanting, tangents), expected)


@KINDS
def test_linearize(kind):
    ours, reference, variables = case(kind, 4, "silu")
    tangents = tuple(map(torch.randn_like, variables))
    out, pushed = linearize(ours, *variables)
    close((out, pushed(*tangents)), jvp(reference, variables, tangents))


@WIDTHS
@ACTIVATIONS
@KINDS
def test_mixed_second_derivatives(kind, activation, width):
    ours, reference, variables = case(kind, width, activation)
    everything = tuple(range(len(variables)))
    directions = tuple(map(torch.randn_like, variables))

    def forward_over_reverse(function):
        return jvp(grad(scalar(function), everything), variables, directions)

    def reverse_over_forward(function):
        def along(*values):
            return sum(t.square().sum() for t in jvp(function, values, directions)[1])

        return grad(along, everything)(*variables)

    def reverse_over_reverse(function):
        def slope(*values):
            gradients = grad(scalar(function), everything)(*values)
            return sum(g.square().sum() for g in gradients)

        return grad(slope, everything)(*variables)

    def forward_over_forward(function):
        return jvp(lambda *v: jvp(function, v, directions)[1], variables, directions)

    # Without create_graph F.silu, hence the reference, has no forward mode in its backward.
    def eager_forward_over_reverse(function):
        wanting = [v.clone().requires_grad_() for v in variables]
        with fwAD.dual_level():
            duals = list(map(fwAD.make_dual, wanting, directions))
            gradients = torch.autograd.grad(
                scalar(function)(*duals), duals, create_graph=function is reference
            )
            return [fwAD.unpack_dual(g).tangent for g in gradients]

    def dual_gradients_of_a_graph_without(function):
        wanting = [v.clone().requires_grad_() for v in variables]
        results = function(*wanting)
        with fwAD.dual_level():
            douts = [fwAD.make_dual(r.detach(), r.detach().cos()) for r in results]
            gradients = torch.autograd.grad(
                results, wanting, douts, create_graph=function is reference
            )
            return [fwAD.unpack_dual(g).tangent for g in gradients]

    for way in (
        forward_over_reverse,
        reverse_over_forward,
        reverse_over_reverse,
        forward_over_forward,
        eager_forward_over_reverse,
        dual_gradients_of_a_graph_without,
    ):
        try:
            close(way(ours), way(reference))
        except AssertionError as error:
            raise AssertionError(way.__name__) from error


@ACTIVATIONS
@KINDS
def test_jacobians_and_hessians(kind, activation):
    ours, reference, variables = case(kind, 4, activation)
    for i in range(len(variables)):
        close(jacfwd(ours, i)(*variables), jacfwd(reference, i)(*variables))
        close(jacrev(ours, i)(*variables), jacrev(reference, i)(*variables))
        expected = hessian(scalar(reference), i)(*variables)
        close(hessian(scalar(ours), i)(*variables), expected)
        close(jacfwd(jacfwd(scalar(ours), i), i)(*variables), expected)
        close(jacrev(jacfwd(scalar(ours), i), i)(*variables), expected)


@ACTIVATIONS
def test_third_derivatives(activation):
    ours, reference, (x, *others) = case("final", 3, activation)

    def thrice(function):
        def slope(x):
            return grad(lambda x: sum(r.pow(3).sum() for r in function(x, *others)))(x)

        return (
            jvp(lambda x: jvp(slope, (x,), (x,))[1], (x,), (x,))[1],
            grad(lambda x: grad(lambda x: slope(x).sum())(x).sum())(x),
        )

    close(thrice(ours), thrice(reference))


@pytest.mark.cpu_only
@pytest.mark.skipif(DEVICE.emulated, reason="float64")
@WIDTHS
@ACTIVATIONS
@KINDS
def test_gradcheck(kind, activation, width):
    ours, _, variables = case(kind, width, activation)
    for v in variables:
        v.requires_grad_()
    assert torch.autograd.gradcheck(ours, variables, check_forward_ad=True, fast_mode=True)
    assert torch.autograd.gradgradcheck(ours, variables, fast_mode=True, check_fwd_over_rev=True)


@ACTIVATIONS
@KINDS
def test_vmap(kind, activation):
    ours, reference, variables = case(kind, 4, activation)
    many = tuple(torch.randn(5, *v.shape, dtype=DTYPE) for v in variables)
    for some in parts(variables):
        in_dims = tuple(0 if i in some else None for i in range(len(variables)))
        inputs = tuple(many[i] if i in some else v for i, v in enumerate(variables))
        close(vmap(ours, in_dims)(*inputs), vmap(reference, in_dims)(*inputs))

        def along(function):
            return lambda *values: jvp(function, values, values)

        close(vmap(along(ours), in_dims)(*inputs), vmap(along(reference), in_dims)(*inputs))

        def gradients(function):
            return grad(scalar(function), tuple(range(len(variables))))

        close(vmap(gradients(ours), in_dims)(*inputs), vmap(gradients(reference), in_dims)(*inputs))
    last = tuple(v.movedim(0, -1) for v in many)
    close(vmap(ours, -1)(*last), vmap(reference)(*many))
    close(
        jvp(vmap(ours), many, many),
        jvp(vmap(reference), many, many),
    )
    twice = tuple(torch.randn(2, 5, *v.shape, dtype=DTYPE) for v in variables)
    close(vmap(vmap(ours))(*twice), vmap(vmap(reference))(*twice))


def test_vmap_over_ids_and_cuts():
    _, _, (x, weight, bias, states) = case("states", 4, "silu")
    ids, cuts = torch.stack([IDS, IDS.flip(1)]), torch.stack([CUTS, torch.tensor([0, 0, 5, 7])])
    weights = torch.stack([weight, -weight])

    def identified(weight, ids):
        return causal_conv1d_fn(x, weight, bias, ids, states)

    def packed(cuts):
        return causal_conv1d_varlen_fn(x[:1], weight, bias, cuts, None, True)

    for in_dims in ((0, 0), (None, 0)):
        chosen = weights if in_dims[0] == 0 else weight
        expected = [identified(chosen[i] if in_dims[0] == 0 else chosen, ids[i]) for i in (0, 1)]
        close(vmap(identified, in_dims)(chosen, ids), torch.stack(expected))
    expected = tuple(map(torch.stack, zip(*map(packed, cuts), strict=True)))
    close(vmap(packed)(cuts), expected)
    tokens = torch.randn(5, T, D, dtype=DTYPE)
    close(
        vmap(lambda x: causal_conv1d_varlen_states(x, CUTS, 4))(tokens),
        torch.stack([causal_conv1d_varlen_states(x, CUTS, 4) for x in tokens]),
    )


@KINDS
def test_vmap_over_size_0(kind):
    ours, reference, variables = case(kind, 4, "silu")
    for some in parts(variables):
        in_dims = tuple(0 if i in some else None for i in range(len(variables)))
        inputs = tuple(
            v.new_empty(0, *v.shape) if i in some else v for i, v in enumerate(variables)
        )
        expected = [(0, *r.shape) for r in reference(*variables)]
        assert [r.shape for r in vmap(ours, in_dims)(*inputs)] == expected

        def gradients(*values):
            results, pull = vjp(ours, *values)
            return pull(results)

        expected = [(0, *v.shape) for v in variables]
        assert [g.shape for g in vmap(gradients, in_dims)(*inputs)] == expected
    none = torch.empty(0, T, D, dtype=DTYPE)
    states = vmap(lambda x: causal_conv1d_varlen_states(x, CUTS, 4))(none)
    assert states.shape == (0, 3, D, 4)
    ids = IDS.new_empty(0, *IDS.shape)
    x, weight = variables[0].expand(B, -1, -1), variables[1]
    assert vmap(lambda ids: causal_conv1d_fn(x, weight, None, ids))(ids).shape == (0, B, D, T)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("layout", ["channel-first", "channels-last", "padded"])
def test_tangents_round_once(layout, dtype):
    x, tangent = (make(B, D, T, dtype, layout) for _ in range(2))
    weight, bias = torch.randn(D, 4), torch.randn(D)
    values, tangents = (x, weight, bias), (tangent, weight.cos(), bias.cos())

    def function(*values):
        return causal_conv1d(*values, "silu")

    def exact(x, weight, bias):
        return by_conv1d(x, weight, bias, x.new_zeros(B, D, 3), "silu")[0]

    _, found = jvp(function, values, tangents)
    wide = [[v.double() if not DEVICE.is_gpu else v.float() for v in g] for g in (values, tangents)]
    expected = jvp(exact, *map(tuple, wide))[1]
    assert found.dtype == dtype
    unit = torch.finfo(dtype).eps / 2
    torch.testing.assert_close(
        found.to(expected.dtype), expected, rtol=1.01 * unit + 1e-6, atol=1e-5
    )


def test_a_tangent_at_infinite_sums_is_that_of_silu():
    x = torch.tensor([[[float("-inf"), float("inf"), 0.0, 1e30, -1e30]]])
    with fwAD.dual_level():
        dual = fwAD.make_dual(x, torch.ones_like(x))
        out = causal_conv1d(dual, torch.ones(1, 1), None, "silu")
        close(fwAD.unpack_dual(out).tangent, torch.tensor([[[0.0, 1.0, 0.5, 1.0, 0.0]]]))


def test_module():
    layer = CausalConv1d(D, 4, activation="silu", dtype=DTYPE)
    x, parameters = make(B, D, T, dtype=DTYPE), dict(layer.named_parameters())
    tangents = {name: torch.randn_like(p) for name, p in parameters.items()}
    along = torch.randn_like(x)

    def conv1d(parameters, x):
        states = x.new_zeros(B, D, 3)
        return by_conv1d(x, parameters["weight"], parameters["bias"], states, "silu")[0]

    def ours(parameters, x):
        return functional_call(layer, parameters, (x,))

    found, expected = (jvp(f, (parameters, x), (tangents, along)) for f in (ours, conv1d))
    close(found, expected)


@KINDS
def test_compiled(kind):
    ours, reference, variables = case(kind, 4, "silu")
    everything = tuple(range(len(variables)))
    directions = tuple(map(torch.randn_like, variables))

    def tangents(*values):
        return jvp(ours, values, directions)[1]

    def gradients(*values):
        return grad(scalar(ours), everything)(*values)

    def forward_over_reverse(*values):
        return jvp(gradients, values, directions)[1]

    def pulled(*values):
        return vjp(ours, *values)[0]

    def mapped(*values):
        return vmap(gradients)(*(v.expand(3, *v.shape) for v in values))

    expected = {
        tangents: jvp(reference, variables, directions)[1],
        gradients: grad(scalar(reference), everything)(*variables),
        forward_over_reverse: jvp(grad(scalar(reference), everything), variables, directions)[1],
        pulled: reference(*variables),
    }
    expected[mapped] = tuple(g.expand(3, *g.shape) for g in expected[gradients])
    for function, results in expected.items():
        torch.compiler.reset()
        compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
        close(compiled(*variables), results)


@pytest.mark.cpu_only
def test_compiled_by_inductor():
    ours, reference, (x, *others) = case("final", 4, "silu")
    direction = torch.randn_like(x)
    for transform in (
        lambda f: lambda x: jvp(f, (x,), (direction,)),
        lambda f: grad(scalar(f)),
        lambda f: jacfwd(lambda x: f(x)[0]),
        lambda f: hessian(scalar(f)),
    ):
        mine, theirs = (transform(lambda x, f=f: f(x, *others)) for f in (ours, reference))
        torch.compiler.reset()
        close(torch.compile(mine, fullgraph=True)(x), theirs(x))


def test_a_level_opened_inside_a_compiled_function():
    ours, reference, variables = case("plain", 4, "silu")
    directions = tuple(map(torch.randn_like, variables))

    def tangents(*values):
        return dual_tangents(ours, values, directions)

    torch.compiler.reset()
    compiled = torch.compile(tangents, backend="aot_eager")
    close(compiled(*variables), jvp(reference, variables, directions)[1])
