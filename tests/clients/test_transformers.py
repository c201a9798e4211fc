"""The models of transformers with our functions in place of their fallback: same results, our
operations counted, in prefill and decoding, training, autocast, compilation, caches, speculation.

Each model runs as transformers has it; ``plain`` takes our functions out again for the comparison.
docs/transformers.md has a table of these tests: ``test_table_is_current`` holds it to the code.
"""

import copy
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import causal_conv1d_mps

transformers = pytest.importorskip("transformers", minversion="5.15")
causal_conv1d_mps.install()  # before any model is imported
from models import (  # noqa: E402
    MODELS,
    NAMES,
    NEW,
    PROMPT,
    Calls,
    assert_close,
    assert_same_gradients,
    build,
    code_of,
    conv_layers,
    flat,
    generate,
    plain,
    tokens,
    train,
)
from transformers import DataCollatorWithFlattening, StaticCache  # noqa: E402

ROOT = Path(__file__).parents[2]
# LFM3 looks for no package: only its own test points it at ours.
LISTED = [name for name in MODELS if name != "LFM3"]

every_model = pytest.mark.parametrize("name", LISTED)


@every_model
def test_generation(name):
    model, ids = build(name), tokens()
    layers = len(conv_layers(model))
    with torch.no_grad(), Calls() as calls:
        logits = model(ids).logits
    assert calls.count == {"forward": layers}
    with Calls() as calls:
        sequence = generate(model, ids)
    assert calls.count == {"forward": layers, "update": layers * (NEW - 1)}
    with plain(model), torch.no_grad(), Calls() as calls:
        assert_close(logits, model(ids).logits, 1e-4)
        assert torch.equal(sequence, generate(model, ids))
    assert not calls.count
    assert len(set(sequence[:, PROMPT:].flatten().tolist())) > 1


@every_model
def test_training(name):
    model, ids = build(name), tokens()
    layers = len(conv_layers(model))
    with Calls() as calls:
        loss, gradients = train(model, ids)
    assert calls.count == {"forward": layers, "backward": layers}
    with plain(model):
        expected_loss, expected = train(model, ids)
    assert_close(loss, expected_loss, 1e-4)
    assert_same_gradients(gradients, expected)
    assert any(re.search(r"conv1?d?\.weight", n) and g.any() for n, g in gradients.items())


@every_model
def test_gradient_checkpointing(name):
    model, ids = build(name), tokens()
    _, expected = train(model, ids)
    model.gradient_checkpointing_enable()
    with Calls() as calls:
        _, gradients = train(model, ids)
    assert calls.count["forward"] == 2 * calls.count["backward"] > 0
    assert_same_gradients(gradients, expected, 1e-5)


@every_model
def test_autocast(name):
    """As near to the float32 gradients as the fallback is, and generates."""
    model, ids = build(name, gain=1), tokens()
    # Falcon-H1 scales its projection by a float32 vector, so that x is float32 too.
    x_dtype = torch.float32 if name == "Falcon-H1" else torch.bfloat16
    exact = flat(train(model, ids)[1])
    with torch.autocast("cpu", torch.bfloat16), Calls() as calls:
        error = (flat(train(model, ids)[1]) - exact).norm()
    assert calls.dtypes == {(x_dtype, torch.float32)}
    with plain(model), torch.autocast("cpu", torch.bfloat16):
        error_of_plain = (flat(train(model, ids)[1]) - exact).norm()
    assert error <= 1.3 * error_of_plain < 0.05 * exact.norm()
    with torch.autocast("cpu", torch.bfloat16), Calls() as calls:
        sequence = generate(model.eval(), ids)
    assert calls.dtypes == {(x_dtype, torch.float32)}
    assert calls.count["update"] == len(conv_layers(model)) * (NEW - 1)
    assert sequence.shape == (2, PROMPT + NEW)


@every_model
def test_compiled_layer(name):
    """Every conv layer is one graph, in prefill and in a decoding step with a cache."""
    model, ids = build(name), tokens()
    layer, keyword = conv_layers(model)[0], cache_keyword(model)
    codes = []

    def backend(graph, inputs):
        codes.append(graph.code)
        return graph.forward

    torch._dynamo.reset()
    compiled = torch.compile(layer, fullgraph=True, backend=backend)
    x, token = torch.randn(2, PROMPT, 32), torch.randn(2, 1, 32)
    with torch.no_grad():
        assert_close(compiled(x), layer(x), 1e-4)
        caches = [model(ids, use_cache=True)[keyword] for _ in range(2)]
        actual, expected = (
            call(token, **{keyword_of(layer, keyword): cache})
            for call, cache in zip((compiled, layer), caches, strict=True)
        )
        assert_close(actual, expected, 1e-4)
        states = [cache.get_conv_state(layer.layer_idx) for cache in caches]
        assert_close(*states, 1e-4)
    assert len(codes) == 2
    assert "causal_conv1d_mps.forward" in codes[0] and "causal_conv1d_mps.update" in codes[1]


def cache_keyword(model):
    """What the model calls its cache."""
    parameters = inspect.signature(model.forward).parameters
    return "cache_params" if "cache_params" in parameters else "past_key_values"


def keyword_of(layer, keyword):
    parameters = inspect.signature(layer.forward).parameters
    return next(k for k in (keyword, "cache_params", "past_key_values") if k in parameters)


@every_model
def test_static_cache(name):
    """Decoding writes into the states where they lie, and equals the fallback's."""
    model, ids = build(name), tokens()

    def decode():
        cache = StaticCache(config=model.config, max_cache_len=PROMPT + NEW)
        arguments = {cache_keyword(model): cache, "use_cache": True}
        model(ids, **arguments)
        states = [getattr(layer, "conv_states", {}).get(0) for layer in cache.layers]
        states = [state for state in states if state is not None]
        addresses = [state.data_ptr() for state in states]
        logits = [model(token[:, None], **arguments).logits for token in tokens(length=4).T]
        states = [layer.conv_states[0] for layer in cache.layers if hasattr(layer, "conv_states")]
        assert addresses == [state.data_ptr() for state in states if state is not None]
        return torch.stack(logits), len(addresses)

    with torch.no_grad(), Calls() as calls:
        logits, states = decode()
    assert states == len(conv_layers(model))
    assert calls.count == {"forward": states, "update": 4 * states}
    with plain(model), torch.no_grad():
        assert_close(logits, decode()[0], 1e-4)


@every_model
def test_assisted_generation(name):
    model, ids = build(name), tokens(batch=1)
    if model._is_stateful:
        with pytest.raises(ValueError, match="stateful"):
            generate(model, ids, assistant_model=model)
        return
    draft = copy.deepcopy(model)
    with torch.no_grad():  # agrees sometimes: some tokens are taken, some rolled back
        draft.get_input_embeddings().weight.add_(torch.randn(64, 32), alpha=0.3)
    expected = generate(model, ids)
    with Calls() as calls:
        assert torch.equal(generate(model, ids, assistant_model=draft), expected)
    assert calls.count["forward"] > 2 * len(conv_layers(model))


@pytest.mark.parametrize("name", ["LFM2", "LFM2-MoE"])
def test_packed_sequences(name):
    """seq_idx of the collator keeps sequences apart, in logits and gradients."""
    model = build(name)
    lengths = (5, 1, 9, 2)
    sequences = [tokens(1, n)[0] for n in lengths]
    collator = DataCollatorWithFlattening(return_seq_idx=True, return_tensors="pt")
    batch = collator([{"input_ids": s.tolist()} for s in sequences])
    batch.pop("labels")
    assert batch["seq_idx"].unique().numel() == len(lengths)
    with Calls() as calls:
        packed = model(**batch, use_cache=False).logits
    assert calls.count == {"forward": len(conv_layers(model))}
    apart = torch.cat([model(s[None], use_cache=False).logits for s in sequences], dim=1)
    assert_close(packed, apart, 1e-4)
    weights = torch.randn_like(apart)
    of_packed = torch.autograd.grad((packed * weights).sum(), list(model.parameters()))
    of_apart = torch.autograd.grad((apart * weights).sum(), list(model.parameters()))
    assert_same_gradients(*(dict(enumerate(g)) for g in (of_packed, of_apart)))
    del batch["seq_idx"]
    with torch.no_grad():
        mixed = model(**batch, use_cache=False).logits
    assert not torch.allclose(mixed, apart, atol=1e-2)  # without it they run into each other
    with plain(model):
        code = code_of(model)
        assert "seq_idx" not in inspect.signature(code.causal_conv1d_fn).parameters


def test_lfm3():
    """Width 7, functions that look for no package: install() points them at ours."""
    model, ids = build("LFM3"), tokens()
    assert conv_layers(model)[0].conv.kernel_size == (7,)
    with torch.no_grad(), Calls() as calls:
        expected, sequence = model(ids).logits, generate(model, ids)
    assert not calls.count
    loss, gradients = train(model, ids)
    code = code_of(model)
    before = {name: getattr(code, name) for name in NAMES}
    bound = causal_conv1d_mps.install()
    try:
        assert {f"{code.__name__}.{name}" for name in NAMES} <= set(bound)
        model.eval()
        with torch.no_grad(), Calls() as calls:
            assert_close(model(ids).logits, expected, 1e-4)
            assert torch.equal(generate(model, ids), sequence)
        assert calls.count == {"forward": 4, "update": 2 * (NEW - 1)}
        found_loss, found = train(model, ids)
        assert_close(found_loss, loss, 1e-4)
        assert_same_gradients(found, gradients)
    finally:
        for name, function in before.items():
            setattr(code, name, function)


RUN = """
import warnings
warnings.simplefilter("ignore")
import sys
sys.path[:0] = [{tests!r}]
import torch
{first}
from models import build
model = build("LFM2")
{then}
from torch.profiler import profile
with profile() as calls:
    model.generate(torch.tensor([[5, 6, 7]]), max_new_tokens=4, do_sample=False)
print(sorted({{e.key for e in calls.key_averages() if "causal_conv1d_mps" in e.key}}))
"""
OURS = "['causal_conv1d_mps::forward_plain', 'causal_conv1d_mps::update']"


def run(first="", then="", path=()):
    tests = str(Path(__file__).parent)
    paths = [*map(str, path), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    result = subprocess.run(
        [sys.executable, "-c", RUN.format(tests=tests, first=first, then=then)],
        env=environment, text=True, capture_output=True,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-3000:]
    return result.stdout.strip().splitlines()[-1]


def test_the_distribution_alone():
    """With compat/ on the path a model calls us, with nothing said in the program."""
    assert run(path=[ROOT / "compat"]) == OURS


def test_install_after_the_models():
    hide = "sys.modules['causal_conv1d'] = None"  # even where the distribution is installed
    assert run(first=hide) == "[]"
    then = "del sys.modules['causal_conv1d']; import causal_conv1d_mps as c; c.install(force=True)"
    assert run(first=hide, then=then) == OURS


CHECKS = {
    "prefill, decoding": "test_generation",
    "gradients": "test_training",
    "checkpointing": "test_gradient_checkpointing",
    "autocast bf16": "test_autocast",
    "compiled layer": "test_compiled_layer",
    "static cache": "test_static_cache",
    "speculation": "test_assisted_generation",
    "packed": "test_packed_sequences",
}


def table():
    """The table of docs/transformers.md: which test covers which model."""
    lines = ["| model | " + " | ".join(CHECKS) + " |", "|---" * (len(CHECKS) + 1) + "|"]
    for name in LISTED:
        model, row = build(name), []
        for test in CHECKS.values():
            mark = next(m for m in globals()[test].pytestmark if m.name == "parametrize")
            refused = test == "test_assisted_generation" and model._is_stateful
            row.append("refused" if refused else "yes" if name in mark.args[1] else "-")
        lines.append(f"| {name} | " + " | ".join(row) + " |")
    return "\n".join(lines)


def test_table_is_current():
    text = (ROOT / "docs/transformers.md").read_text()
    assert table() in text, f"docs/transformers.md should have:\n{table()}"
