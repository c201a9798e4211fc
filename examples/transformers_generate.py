"""Models of transformers generate on the CPU, before and after causal_conv1d_mps.install().

Random weights in the hidden sizes of published models, with few layers. Prefill and decoding run in
turn with transformers' own convolution and with this package; the time within the convolution is
taken too. It needs `pip install transformers`:

    python examples/transformers_generate.py
    python examples/transformers_generate.py --models LFM2-350M --threads 1 --plot generate.png
"""

from __future__ import annotations

import argparse
import math
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from statistics import median
from sys import modules
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn

import causal_conv1d_mps

causal_conv1d_mps.install()  # from here on models find it

MODELS = {
    "LFM2-350M": (
        "lfm2",
        {"hidden_size": 1024, "intermediate_size": 6656, "num_attention_heads": 16,
         "num_key_value_heads": 8, "vocab_size": 65536},
        ["conv", "conv", "full_attention", "conv"],
    ),
    "Mamba2-370M": (
        "mamba2",
        {"hidden_size": 1024, "state_size": 128, "head_dim": 64, "num_heads": 32, "n_groups": 1,
         "vocab_size": 50288, "tie_word_embeddings": True},
        None,
    ),
    "Qwen3.5-0.8B": (
        "qwen3_5_text",
        {"hidden_size": 1024, "intermediate_size": 3584, "num_attention_heads": 8,
         "num_key_value_heads": 2, "head_dim": 256, "linear_num_key_heads": 16,
         "linear_num_value_heads": 16, "vocab_size": 248320, "tie_word_embeddings": True},
        ["linear_attention"] * 3 + ["full_attention"],
    ),
}  # fmt: skip
FUNCTIONS = ("causal_conv1d_fn", "causal_conv1d_update")
BEFORE, AFTER = "transformers' own", "causal_conv1d_mps"


def build(name: str, layers: int, dtype: torch.dtype, vocabulary: int | None) -> nn.Module:
    from transformers import AutoConfig, AutoModelForCausalLM

    model_type, sizes, kinds = MODELS[name]
    if kinds is not None:
        sizes = sizes | {"layer_types": [kinds[i % len(kinds)] for i in range(layers)]}
    if vocabulary:
        sizes = sizes | {"vocab_size": vocabulary}
    config = AutoConfig.for_model(
        model_type,
        num_hidden_layers=layers,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        **sizes,
    )
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config, dtype=dtype).eval()


class Conv:
    """The two functions of a model, one of the two ways, and the seconds spent in them."""

    def __init__(self, model: nn.Module) -> None:
        self.code = modules[type(model).__module__]
        after = {name: getattr(self.code, name) for name in FUNCTIONS}
        before = {name: function.__wrapped__ for name, function in after.items()}
        self.ways = {BEFORE: before, AFTER: after}
        self.seconds = 0.0

    @contextmanager
    def by(self, way: str) -> Iterator[None]:
        try:
            for name, function in self.ways[way].items():
                setattr(self.code, name, self.timed(function))
            yield
        finally:
            for name, function in self.ways[AFTER].items():
                setattr(self.code, name, function)

    def timed(self, function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def call(*args: Any, **kwargs: Any) -> Tensor:
            start = perf_counter()
            out = function(*args, **kwargs)
            self.seconds += perf_counter() - start
            return out

        return call


@torch.inference_mode()
def generate(
    model: nn.Module, conv: Conv, prompt: Tensor, tokens: int
) -> tuple[list[tuple[float, float]], Tensor]:
    """Greedily: seconds of the prefill and of every step, and how many of them in the
    convolution; and the tokens."""
    from transformers import DynamicCache

    cache = DynamicCache(config=model.config)
    mamba = "cache_params" in model.forward.__code__.co_varnames
    cached = {"cache_params" if mamba else "past_key_values": cache, "use_cache": True}
    times, text, step = [], [], prompt
    for _ in range(tokens + 1):
        conv.seconds, start = 0.0, perf_counter()
        logits = model(step, logits_to_keep=1, **cached).logits
        step = logits[:, -1:].argmax(dim=-1)
        times.append((perf_counter() - start, conv.seconds))
        text.append(step)
    return times, torch.cat(text, dim=1)


def measure(model: nn.Module, prompt: Tensor, tokens: int, rounds: int) -> dict[str, Any]:
    """Per way: the shortest prefill and step, and the convolution in it, in ms."""
    conv, texts = Conv(model), {}
    found: dict[str, dict[str, list[float]]] = {way: defaultdict(list) for way in conv.ways}
    for _ in range(rounds):
        for way, row in found.items():
            with conv.by(way):
                (prefill, *steps), texts[way] = generate(model, conv, prompt, tokens)
            row["prefill"].append(prefill[0])
            row["prefill conv"].append(prefill[1])
            row["step"].append(min(step for step, _ in steps))
            row["step conv"].append(min(spent for _, spent in steps))
    before, after = found[BEFORE], found[AFTER]
    return {
        "ways": {w: {k: 1e3 * min(v) for k, v in row.items()} for w, row in found.items()},
        # bfloat16 rounds apart in the two, so that texts of random weights may part.
        "same": (texts[BEFORE] == texts[AFTER]).cummin(dim=1).values.sum().item(),
        "ratios": {
            k: median(b / a for b, a in zip(before[k], after[k], strict=True)) for k in after
        },
    }


@torch.inference_mode()
def alone(model: nn.Module, rounds: int) -> dict[str, float]:
    """One step of one layer's convolution, as the model calls it, in us: the caches are its own."""
    conv = Conv(model)
    layer = next(
        m for m in model.modules() if hasattr(m, "conv1d") or hasattr(m, "conv_kernel_size")
    )
    conv1d = layer.conv1d if hasattr(layer, "conv1d") else layer.conv
    dim, width = conv1d.weight.shape[0], conv1d.weight.shape[2]
    state, x = (torch.zeros(1, dim, n, dtype=conv1d.weight.dtype) for n in (width, 1))
    activation = getattr(layer, "activation", None)
    weight, best = conv1d.weight.squeeze(1), dict.fromkeys(conv.ways, math.inf)
    for _ in range(10 * rounds):
        for way, functions in conv.ways.items():
            update, start = functions["causal_conv1d_update"], perf_counter()
            for _ in range(200):
                update(x, state, weight, conv1d.bias, activation)
            best[way] = min(best[way], 1e6 * (perf_counter() - start) / 200)
    return best


def plot(path: Path, results: dict[str, dict]) -> None:
    """Stacked bars: the convolution and the rest, of a step and of the prefill."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(
        1, 2, figsize=(11, 1.5 + 0.8 * len(results)), sharey=True, layout="constrained"
    )
    for axes, part in zip(panels, ("step", "prefill"), strict=True):
        labels = [f"{name}\n{way}" for name in results for way in (BEFORE, AFTER)]
        rows = [results[name]["ways"][way] for name in results for way in (BEFORE, AFTER)]
        conv = [row[f"{part} conv"] for row in rows]
        rest = [row[part] - row[f"{part} conv"] for row in rows]
        axes.barh(labels, rest, color="lightgrey", label="the rest")
        bars = axes.barh(labels, conv, left=rest, label="convolution")
        axes.bar_label(
            bars, [f"{c / row[part]:.1%}" for c, row in zip(conv, rows, strict=True)], padding=3
        )
        axes.margins(x=0.12)
        axes.set_xlabel("ms")
        axes.set_title("one token" if part == "step" else "prefill")
    panels[0].invert_yaxis()
    panels[1].legend()
    figure.savefig(path, dpi=120)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", choices=MODELS, default=["LFM2-350M", "Mamba2-370M"])
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--prompt", type=int, default=512, metavar="TOKENS")
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--dtype", choices=["bfloat16", "float32"], default="bfloat16")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--vocabulary", type=int, help="tokens, in place of the model's own")
    parser.add_argument("--plot", type=Path, metavar="F.png")
    return parser.parse_args()


def main() -> None:
    args = arguments()
    from transformers.utils import logging

    logging.set_verbosity_error()
    torch.set_num_threads(args.threads)
    results = {}
    print(
        f"{args.layers} layers, {args.dtype}, {args.threads} threads, prefill of {args.prompt} "
        f"tokens; PyTorch {torch.__version__}, transformers {version('transformers')}"
    )
    for name in args.models:
        model = build(name, args.layers, getattr(torch, args.dtype), args.vocabulary)
        prompt = torch.randint(3, model.config.vocab_size, (1, args.prompt))
        results[name] = result = measure(model, prompt, args.tokens, args.rounds)
        for way, row in result["ways"].items():
            step, prefill = row["step"], row["prefill"]
            step_conv, prefill_conv = row["step conv"], row["prefill conv"]
            print(
                f"{name} by {way}: a token {step:.3f} ms ({1e3 / step:.1f} tokens/s), of it the "
                f"convolution {1e3 * step_conv:.0f} us ({step_conv / step:.1%}); the prefill "
                f"{prefill:.1f} ms, of it the convolution {prefill_conv:.2f} ms "
                f"({prefill_conv / prefill:.1%})",
                flush=True,
            )
        best = alone(model, args.rounds)
        before, after = best[BEFORE], best[AFTER]
        print(
            f"{name}: a layer's step of the convolution alone: {after:.1f} us, "
            f"{BEFORE} {before:.1f}, {before / after:.1f}x"
        )
        ratios = ", ".join(f"{part} {ratio:.2f}x" for part, ratio in result["ratios"].items())
        print(f"{name}: {ratios} (medians); first {result['same']} tokens the same")
    if args.plot:
        plot(args.plot, results)


if __name__ == "__main__":
    main()
