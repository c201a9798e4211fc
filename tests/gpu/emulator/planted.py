"""Bugs planted in the shader, in the C that drives it and in the stand-in for PyTorch, and a short
run that has to find them.

A bug names the function that it is in, not a file or a line, and is compared token by token: it
survives when code is moved, indented or reordered around it.
"""

import dataclasses
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from driver import ROOT, build, sanitized
from shader import shader_text

BARRIER = "threadgroup_barrier(mem_flags::mem_threadgroup);"
WIDE = 18  # two blocks of taps, the first of one tap
SIMD_BARRIER = "simdgroup_barrier(mem_flags::mem_threadgroup);"


@dataclasses.dataclass(frozen=True)
class Plant:
    """In the definition of ``function`` the code ``old`` becomes ``new``; of several places it is
    number ``place``, and else there must be one.  The short run of ``operation`` then says
    ``finding``, with ``sanitizer`` if that is needed to find it, or with ``whole_groups``."""

    name: str
    function: str
    old: str
    new: str
    operation: str
    finding: str = "worst inf|worst [1-9]"  # beyond the bound
    sanitizer: str | None = None
    whole_groups: bool = False
    place: int | None = None
    width: int = 4


PLANTS = [
    Plant("a barrier missing in reduce", "reduce", BARRIER, "", "backward"),
    Plant(
        "a barrier missing after writing in backward_dim",
        "backward_dim",
        BARRIER,
        "",
        "backward",
        place=1,
    ),
    Plant(
        "a barrier missing before writing in backward_dim",
        "backward_dim",
        BARRIER,
        "",
        "backward",
        place=0,
    ),
    Plant(
        "the same, as a race",
        "backward_dim",
        BARRIER,
        "",
        "backward",
        "data race(.|\n)*program_source.* in backward_dim",
        "thread",
        place=0,
    ),
    Plant(
        "a barrier that not all threads reach",
        "reduce",
        BARRIER,
        f"if (d >= offset(dim)) return; {BARRIER}",
        "backward",
        "reduce: the threads of a group diverge",
    ),
    *(
        Plant(
            f"a barrier missing {when} in forward_wide_time",
            "forward_wide_time",
            SIMD_BARRIER,
            "",
            "forward",
            place=place,
            width=WIDE,
        )
        for place, when in ((0, "before the sums"), (2, "before storing"))
    ),
    Plant(
        "a barrier missing after the sums in forward_wide_time, as a race",
        "forward_wide_time",
        SIMD_BARRIER,
        "",
        "forward",
        "data race(.|\n)*program_source.* in forward_wide_time",
        "thread",
        place=1,
        width=WIDE,
    ),
    Plant(
        "a barrier missing after the taps in forward_wide_dim",
        "forward_wide_dim",
        BARRIER,
        "",
        "forward",
        place=1,
        width=WIDE,
    ),
    Plant(
        "a block of taps that begins one too late",
        "add_block",
        "k = FIRST",
        "k = FIRST + 1",
        "forward",
        width=WIDE,
    ),
    Plant(
        "the oldest initial state forgotten before a row",
        "before_row",
        "at < -(WIDTH - 1)",
        "at <= -(WIDTH - 1)",
        "forward, states",
        width=WIDE,
    ),
    Plant(
        "every second column of a final state",
        "store_final_columns",
        "k += stride",
        "k += 2 * stride",
        "forward, states",
        width=WIDE,
    ),
    Plant(
        "a halo one too short in backward_time",
        "backward_time",
        "lane * VECTOR + i < WIDTH - 1",
        "lane * VECTOR + i < WIDTH - 2",
        "backward",
    ),
    Plant(
        "a halo shifted by one along the channels",
        "load_history",
        "max(t - (WIDTH - 1) + k, offset(0))",
        "max(t - WIDTH + k, offset(0))",
        "forward",
    ),
    Plant(
        "the oldest initial state forgotten",
        "unpack_window",
        "at < -(WIDTH - 1)",
        "at <= -(WIDTH - 1)",
        "forward, states",
    ),
    Plant(
        "a shuffle from beyond the SIMD group",
        "backward_time",
        "simd_shuffle(offered, ushort((lane + step) % CC1D_SIMD))",
        "simd_shuffle(offered, ushort(lane + step))",
        "backward",
        "backward_time: simd_shuffle in line .* reads the value of a lane that is not there",
    ),
    Plant(
        "ids read before the first",
        "is_whole",
        "first = max(first, offset(0));",
        "",
        "forward, seq_idx",
        "AddressSanitizer: heap-buffer-overflow(.|\n)*is_whole.*program_source",
        "address",
    ),
    Plant(
        "threads beyond the last sequence",
        "states",
        "|| n >= offset(sequences)",
        "",
        "forward, packed",
        "AddressSanitizer: heap-buffer-overflow(.|\n)*program_source(.|\n)* in states\\(",
        "address",
        whole_groups=True,
    ),
    Plant(
        "another tensor in a slot of the update",
        "cc1d_gpu_update",
        "CC1D_UPDATE_cache_seqlens, ring",
        "CC1D_UPDATE_cache_seqlens, indices",
        "update, (ring|indices)",
        "worst|update: slot",
    ),
    Plant(
        "an argument forgotten in the plan of reduce",
        "plan_reduce",
        "cc1d_set_number(&l, CC1D_REDUCE_parts, parts);",
        "",
        "backward",
        "Assertion .*slots_set",
    ),
    Plant(
        "an argument that the launcher leaves out",
        "encode",
        "slot < l->slot_count",
        "slot < l->slot_count - 1",
        "backward",
        r"argument slot \d+ is not set",
    ),
    Plant(
        "final states written where others still read the initial ones",
        "cc1d_gpu_forward",
        "final->data != a->initial_states.data",
        "final->data != NULL",
        "forward, in place",
        "data race(.|\n)*store_final_state",
        "thread",
    ),
    Plant(
        "a wrong argument index in the launcher",
        "encode",
        "aoti_torch_mps_set_arg_int(f, (unsigned)slot,",
        "aoti_torch_mps_set_arg_int(f, (unsigned)slot - 1,",
        "forward",
        r"slot \d+ takes a tensor, got an integer",
    ),
    Plant(
        "a grid one thread too short",
        "plan_forward",
        "seqlen / vector / rows, dim",
        "seqlen / vector / rows - 1, dim",
        "forward",
    ),
    Plant(
        "a grid without the rest",
        "plan_forward",
        "dim / vector, ceil_div(seqlen, run)",
        "dim / vector, (seqlen - 1) / run",
        "forward",
    ),
    Plant(
        "groups of too many threads",
        "plan_reduce",
        "cc1d_set_group(&l, CC1D_SIMD, CC1D_REDUCE_SLICES)",
        "cc1d_set_group(&l, CC1D_SIMD, 8 * CC1D_REDUCE_SLICES)",
        "backward",
        "Threadgroup size 2048",
    ),
    Plant(
        "groups as wide as two",
        "plan_reduce",
        "cc1d_set_group(&l, CC1D_SIMD, CC1D_REDUCE_SLICES)",
        "cc1d_set_group(&l, 2 * CC1D_SIMD, CC1D_REDUCE_SLICES)",
        "backward",
    ),
    Plant(
        "what is encoded is not retained",
        "aoti_torch_mps_set_arg_tensor",
        "block->retained.push_back(std::move(memory));",
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
s.WIDTHS, s.DIM = (int(os.environ.get("PLANTED_WIDTH", 4)),), 34
s.LENGTHS, s.LAYOUTS = (5, 140), ("channel-first", "channels-last")
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


DRIVERS = (*sorted((ROOT / "src/gpu").glob("*.c")), ROOT / "tests/gpu/emulator/mps_standin.cpp")
TOKEN = re.compile(r"\w+|\S")


def definition(text: str, name: str) -> tuple[int, int] | None:
    """Where a function, or data in braces, of that name begins and ends in a text."""
    begun = re.search(rf"^\w[^;{{}}]*?\b{name}\b[^;{{}}]*{{", text, re.MULTILINE)
    if begun is None:
        return None
    depth = 0
    for brace in re.finditer("[{}]", text[begun.start() :]):
        depth += 1 if brace[0] == "{" else -1
        if depth == 0:
            return begun.start(), begun.start() + brace.end()
    raise ValueError(f"{name} has no end")


def planted(text: str, plant: Plant) -> str | None:
    """The text with the bug, or None if it does not define the function."""
    found = definition(text, plant.function)
    if found is None:
        return None
    code = text[found[0] : found[1]]
    between = r"\s*".join(map(re.escape, TOKEN.findall(plant.old)))
    places = list(re.finditer(between, code))
    right = len(places) == 1 if plant.place is None else plant.place < len(places)
    assert right, f"{plant.function} has {len(places)} of {plant.old!r}"
    place = places[plant.place or 0]
    return text[: found[0] + place.start()] + plant.new + text[found[0] + place.end() :]


def planted_run(plant: Plant, folder: Path) -> tuple[int, str]:
    """The short run with what is planted in; ``folder`` is for the patched copy."""
    shader = planted(shader_text(), plant)
    if shader is not None:
        path = folder / "patched.metal"
        path.write_text(shader)
        variables = {"CAUSAL_CONV1D_METAL_PATH": str(path)}
    else:  # a copy of the tree, objects included: only what is patched is compiled again
        library = build("libcausal_conv1d_emulated.so").relative_to(ROOT)
        # What other processes may write to meanwhile stays.
        ignored = shutil.ignore_patterns("variants", "__pycache__")
        for name in ("src", "include", "tests/gpu/emulator", "build/gpu"):
            shutil.copytree(ROOT / name, folder / name, ignore=ignored)
        texts = {path: planted(path.read_text(), plant) for path in DRIVERS}
        ((path, text),) = ((path, text) for path, text in texts.items() if text is not None)
        (folder / path.relative_to(ROOT)).write_text(text)
        variables = {
            "CAUSAL_CONV1D_LIBRARY": str(build(str(library.relative_to("build/gpu")), folder)),
            "CAUSAL_CONV1D_EMULATOR_CACHE": str(ROOT / "build/gpu/variants"),
        }
    variables["PLANTED_WIDTH"] = str(plant.width)
    return short_run(plant.operation, plant.sanitizer, plant.whole_groups, **variables)
