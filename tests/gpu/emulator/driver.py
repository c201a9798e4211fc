"""Builds the emulated GPU, runs shaders on it, and runs Python with a sanitizer in the shaders:

python driver.py address|thread -m pytest ...
"""

import ctypes
import os
import shutil
import subprocess
import sys
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[3]


def build(target: str, root: Path = ROOT) -> Path:
    """Makes build/gpu/``target`` of a tree if it is out of date, and returns its path."""
    path = Path("build") / "gpu" / target
    subprocess.run(
        ["make", "--no-print-directory", "-f", "tests/gpu/emulator/Makefile", str(path)],
        cwd=root,
        env={**os.environ, "PYTHON": sys.executable},
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return root / path


_pointer_of = ctypes.pythonapi.PyCapsule_GetPointer
_pointer_of.restype = ctypes.c_void_p


def handle_of(tensor: torch.Tensor) -> ctypes.c_void_p:
    """An AtenTensorHandle, which is the caller's to delete."""
    capsule = torch._C._aoti.unsafe_alloc_void_ptr_from_tensor(tensor)
    return ctypes.c_void_p(_pointer_of(ctypes.py_object(capsule), None))


class Error(RuntimeError):
    """What the stand-in reported."""


class Gpu:
    """The stand-in's functions, alone or in a library that has them, which raise ``Error`` instead
    of returning a status."""

    def __init__(self, path: str | Path | None = None):
        self.path = path or build("libmps_standin.so")
        self._standin = ctypes.CDLL(str(self.path))
        libtorch = Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"
        self._libtorch = ctypes.CDLL(str(libtorch))
        self._libtorch.torch_exception_get_what.restype = ctypes.c_char_p

    def call(self, name: str, *arguments):
        """aoti_torch_mps_``name``."""
        if getattr(self._standin, f"aoti_torch_mps_{name}")(*arguments):
            raise Error(self._libtorch.torch_exception_get_what().decode())

    def function(self, text: str, kernel: str) -> ctypes.c_void_p:
        """The kernel of that name in a shader's text."""
        library, function = ctypes.c_void_p(), ctypes.c_void_p()
        self.call("create_shader_library", text.encode(), ctypes.byref(library))
        self.call("get_kernel_function", library, kernel.encode(), ctypes.byref(function))
        return function

    def block(self, function: ctypes.c_void_p, body):
        """Runs ``body()`` in a command block, and raises what it raised."""
        raised = []

        @ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)
        def callback(_function, _user):
            try:
                body()
            except Exception as error:
                raised.append(error)

        try:
            self.call("run_command_block", function, callback, None)
        except Error as error:
            raised.append(error)
        if raised:
            raise raised[0]

    def set(self, function: ctypes.c_void_p, slot: int, value: torch.Tensor | int):
        """An argument of the encoding under way."""
        if isinstance(value, int):
            self.call("set_arg_int", function, slot, ctypes.c_int64(value))
            return
        handle = handle_of(value)
        try:
            self.call("set_arg_tensor", function, slot, handle)
        finally:
            self._libtorch.aoti_torch_delete_tensor_object(handle)

    def dispatch(self, function: ctypes.c_void_p, grid, group):
        """Runs the encoding's kernel."""
        size = ctypes.c_uint64 * len(grid)
        self.call(
            "dispatch_array_with_group_size",
            function,
            size(*grid),
            ctypes.c_size_t(len(grid)),
            (ctypes.c_uint64 * len(group))(*group),
            ctypes.c_size_t(len(group)),
        )

    def launch(self, text: str, kernel: str, arguments, grid, group):
        """One kernel of a shader's text, in a command block of its own."""
        function = self.function(text, kernel)

        def body():
            self.call("start_encoding", function)
            for slot, value in enumerate(arguments):
                self.set(function, slot, value)
            self.dispatch(function, grid, group)

        self.block(function, body)


SANITIZERS = {  # libraries to preload, options of the compiler
    # AddressSanitizer looks for the C++ runtime's throw when it starts.
    "address": (
        ["libasan.so", "libstdc++.so"],
        "-g -fsanitize=address,undefined -fno-sanitize-recover=undefined"
        " -fsanitize-sections=threadgroup",
    ),
    "thread": (["libtsan.so"], "-g -fsanitize=thread"),
}


def at_fixed_addresses() -> list[str]:
    """What a command begins with: the shadow memory of gcc's sanitizers may lie where Linux puts a
    library at random, and then they do not start."""
    prefix = ["setarch", "--addr-no-randomize"]
    there = shutil.which("setarch") and not subprocess.call([*prefix, "true"])
    return prefix if there else []


def sanitized(sanitizer: str, *command: str, **options) -> subprocess.CompletedProcess:
    """Runs ``python *command`` with the shaders, and them alone, compiled with a sanitizer of g++;
    options as of ``subprocess.run``."""
    libraries, flags = SANITIZERS[sanitizer]
    preload = [
        subprocess.check_output(["g++", f"-print-file-name={name}"], text=True).strip()
        for name in libraries
    ]
    variables = {
        "LD_PRELOAD": " ".join(preload),
        "CXX": "g++",
        "CAUSAL_CONV1D_EMULATOR_FLAGS": flags,
        "PYTHONMALLOC": "malloc",
        "PYTHONPATH": str(Path(__file__).parent),
        "OMP_NUM_THREADS": "1",
        "ASAN_OPTIONS": "detect_leaks=0",
        "TSAN_OPTIONS": "ignore_noninstrumented_modules=1 halt_on_error=1",
    }
    environment = {**os.environ, **variables, **options.pop("env", {})}
    command = (*at_fixed_addresses(), sys.executable, *command)
    return subprocess.run(command, env=environment, text=True, **options)


if __name__ == "__main__":
    sys.exit(sanitized(*sys.argv[1:]).returncode)
