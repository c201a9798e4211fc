"""Bugs planted in the shader, in the C that drives it and in the stand-in for PyTorch, and a short
run that has to find them."""

import dataclasses
import os
import shutil
import subprocess
import sys
from pathlib import Path

from driver import ROOT, build, sanitized

SHADER, PLAN, METAL = "src/gpu/causal_conv1d.metal", "src/gpu/plan.c", "src/gpu/metal.c"
STANDIN = "tests/gpu/emulator/mps_standin.cpp"
BARRIER = "threadgroup_barrier(mem_flags::mem_threadgroup);"


@dataclasses.dataclass(frozen=True)
class Plant:
    """``old``, which stands once in ``file``, becomes ``new``; the short run of ``operation`` then
    says ``finding``, with ``sanitizer`` if that is needed to find it, or with ``whole_groups``."""

    name: str
    file: str
    old: str
    new: str
    operation: str
    finding: str = "worst inf|worst [1-9]"  # beyond the bound
    sanitizer: str | None = None
    whole_groups: bool = False


PLANTS = [
    Plant(
        "a barrier missing in reduce",
        SHADER,
        f"    slices[slice][lane] = sum;\n    {BARRIER}\n",
        "    slices[slice][lane] = sum;\n",
        "backward",
    ),
    Plant(
        "a barrier missing after writing in backward_dim",
        SHADER,
        f"slices[slice][lane][v] = sums[k][v];\n        {BARRIER}\n",
        "slices[slice][lane][v] = sums[k][v];\n",
        "backward",
    ),
    Plant(
        "a barrier missing before writing in backward_dim",
        SHADER,
        f"        {BARRIER}\n#pragma unroll\n        for (int v = 0; v < VECTOR; v++) slices",
        "#pragma unroll\n        for (int v = 0; v < VECTOR; v++) slices",
        "backward",
    ),
    Plant(
        "the same, as a race",
        SHADER,
        f"        {BARRIER}\n#pragma unroll\n        for (int v = 0; v < VECTOR; v++) slices",
        "#pragma unroll\n        for (int v = 0; v < VECTOR; v++) slices",
        "backward",
        "data race(.|\n)*program_source.* in backward_dim",
        "thread",
    ),
    Plant(
        "a barrier that not all threads reach",
        SHADER,
        f"    slices[slice][lane] = sum;\n    {BARRIER}\n",
        f"    slices[slice][lane] = sum;\n    if (d >= offset(dim)) return;\n    {BARRIER}\n",
        "backward",
        "reduce: the threads of a group diverge",
    ),
    Plant(
        "a halo one too short in backward_time",
        SHADER,
        "if (lane * VECTOR + i < WIDTH - 1 && t < c.seqlen)",
        "if (lane * VECTOR + i < WIDTH - 2 && t < c.seqlen)",
        "backward",
    ),
    Plant(
        "a halo shifted by one along the channels",
        SHADER,
        "Values::load(c.x + max(t - (WIDTH - 1) + k, offset(0)) * c.x_t, rows[k]);",
        "Values::load(c.x + max(t - WIDTH + k, offset(0)) * c.x_t, rows[k]);",
        "forward",
    ),
    Plant(
        "the oldest initial state forgotten",
        SHADER,
        "at < -(WIDTH - 1) ? 0.0f",
        "at <= -(WIDTH - 1) ? 0.0f",
        "forward, states",
    ),
    Plant(
        "a shuffle from beyond the SIMD group",
        SHADER,
        "simd_shuffle(offered, ushort((lane + step) % CC1D_SIMD))",
        "simd_shuffle(offered, ushort(lane + step))",
        "backward",
        "backward_time: simd_shuffle in line .* reads the value of a lane that is not there",
    ),
    Plant(
        "ids read before the first",
        SHADER,
        "    first = max(first, offset(0));\n",
        "",
        "forward, seq_idx",
        "AddressSanitizer: heap-buffer-overflow(.|\n)*is_whole.*program_source",
        "address",
    ),
    Plant(
        "threads beyond the last sequence",
        SHADER,
        "|| n >= offset(sequences)) return;\n    Channel c;\n    c.x =",
        ") return;\n    Channel c;\n    c.x =",
        "forward, packed",
        "AddressSanitizer: heap-buffer-overflow(.|\n)*program_source(.|\n)* in states\\(",
        "address",
        whole_groups=True,
    ),
    Plant(
        "two arguments swapped in the plan of the update",
        PLAN,
        "    add_tensor(&l, ring, x);\n    add_tensor(&l, indices, x);\n",
        "    add_tensor(&l, indices, x);\n    add_tensor(&l, ring, x);\n",
        "update, (ring|indices)",
        "worst|update: slot",
    ),
    Plant(
        "an argument forgotten in the plan of reduce",
        PLAN,
        "    add_number(&l, parts);\n",
        "",
        "backward",
        "reduce: argument slot 7 is not set",
    ),
    Plant(
        "final states written where others still read the initial ones",
        PLAN,
        "final->data != a->initial_states.data",
        "final->data != NULL",
        "forward, in place",
        "data race(.|\n)*store_final_state",
        "thread",
    ),
    Plant(
        "a wrong argument index in the launcher",
        METAL,
        "set_arg_int(f, (unsigned)slot,",
        "set_arg_int(f, (unsigned)slot - 1,",
        "forward",
        "slot 6 takes a tensor, got an integer",
    ),
    Plant(
        "a grid one thread too short",
        PLAN,
        "set_grid(&l, x->size[2] / vector / rows, x->size[1], x->size[0]);",
        "set_grid(&l, x->size[2] / vector / rows - 1, x->size[1], x->size[0]);",
        "forward",
    ),
    Plant(
        "a grid without the rest",
        PLAN,
        "set_grid(&l, x->size[1] / vector, ceil_div(x->size[2], run), x->size[0]);",
        "set_grid(&l, x->size[1] / vector, (x->size[2] - 1) / run, x->size[0]);",
        "forward",
    ),
    Plant(
        "groups of too many threads",
        PLAN,
        "    set_group(&l, CC1D_SIMD, CC1D_REDUCE_SLICES);\n",
        "    set_group(&l, CC1D_SIMD, 8 * CC1D_REDUCE_SLICES);\n",
        "backward",
        "Threadgroup size 2048",
    ),
    Plant(
        "groups as wide as two",
        PLAN,
        "    set_group(&l, CC1D_SIMD, CC1D_REDUCE_SLICES);\n",
        "    set_group(&l, 2 * CC1D_SIMD, CC1D_REDUCE_SLICES);\n",
        "backward",
    ),
    Plant(
        "what is encoded is not retained",
        STANDIN,
        "        block->retained.push_back(std::move(memory));\n",
        "",
        "a temporary",
        "AddressSanitizer: heap-use-after-free(.|\n)*in copy.*program_source",
        "address",
    ),
]

# The package's selftest with few of its cases; prints what is wrong.
SHORT_RUN = """
import os, re, sys
import causal_conv1d_mps.selftest as s
import operations
s.WIDTHS, s.LENGTHS, s.LAYOUTS, s.DIM = (4,), (5, 140), ("channel-first", "channels-last"), 34
if os.environ.get("CAUSAL_CONV1D_EMULATOR_WHOLE_GROUPS"):
    s.DIM = 5  # groups are then more than one sequence wide
s.DTYPES = {"fp32": s.torch.float32}
s.OPERATIONS["forward, in place"] = operations.forward_in_place
s.OPERATIONS["a temporary"] = operations.temporary
s.OPERATIONS = {name: run for name, run in s.OPERATIONS.items() if re.fullmatch(sys.argv[1], name)}
results = s.check("cpu")
for r in results:
    if not r["right"]:
        print(r["operation"], r["layout"], r["raised"] or f"worst {r['worst']}")
print(len(results), "checked")
sys.exit(any(not r["right"] for r in results))
"""


def short_run(
    operation: str, sanitizer: str | None = None, whole_groups: bool = False, **environment: str
) -> tuple[int, str]:
    """(exit code, output) of the operations whose names match."""
    if whole_groups:
        environment["CAUSAL_CONV1D_EMULATOR_WHOLE_GROUPS"] = "1"
    library = str(build("libcausal_conv1d_emulated.so"))
    # glibc then fills new memory, so that what a kernel leaves out is wrong and not what was there.
    variables = {"CAUSAL_CONV1D_LIBRARY": library, "MALLOC_PERTURB_": "1"}
    environment = variables | {"PYTHONPATH": str(Path(__file__).parent)} | environment
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    command = ["-c", SHORT_RUN, operation]
    if sanitizer:
        run = sanitized(sanitizer, *command, env=environment, **options)
    else:
        environment = {**os.environ, **environment}
        run = subprocess.run([sys.executable, *command], env=environment, text=True, **options)
    return run.returncode, run.stdout


def planted_run(plant: Plant, folder: Path) -> tuple[int, str]:
    """The short run with what is planted in; ``folder`` is for the patched copy."""
    text = (ROOT / plant.file).read_text()
    assert text.count(plant.old) == 1, f"{plant.file} has {text.count(plant.old)} of {plant.old!r}"
    patched = text.replace(plant.old, plant.new)
    if plant.file == SHADER:
        path = folder / "patched.metal"
        path.write_text(patched)
        variables = {"CAUSAL_CONV1D_METAL_PATH": str(path)}
    else:  # a copy of the tree, objects included: only what is patched is compiled again
        library = build("libcausal_conv1d_emulated.so").relative_to(ROOT)
        # What other processes may write to meanwhile stays.
        ignored = shutil.ignore_patterns("variants", "__pycache__")
        for name in ("src", "include", "tests/gpu/emulator", "build/gpu"):
            shutil.copytree(ROOT / name, folder / name, ignore=ignored)
        (folder / plant.file).write_text(patched)
        variables = {
            "CAUSAL_CONV1D_LIBRARY": str(build(str(library.relative_to("build/gpu")), folder)),
            "CAUSAL_CONV1D_EMULATOR_CACHE": str(ROOT / "build/gpu/variants"),
        }
    return short_run(plant.operation, plant.sanitizer, plant.whole_groups, **variables)
