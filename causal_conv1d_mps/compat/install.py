"""Puts this package under the import names ``causal_conv1d`` and ``causal_conv1d_cuda``, in the
running process."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from types import ModuleType
from typing import Any

_OURS = "causal_conv1d_mps"
_NAME = "causal_conv1d"
_EXTENSION = "causal_conv1d_cuda"  # what older clients import beside it
# The import names of others, and our modules.
_MODULES = {
    _NAME: "compat",
    f"{_NAME}.causal_conv1d_interface": "compat.causal_conv1d_interface",
    f"{_NAME}.causal_conv1d_varlen": "compat.causal_conv1d_varlen",
    f"{_NAME}.cpp_functions": "compat.cpp_functions",
    _EXTENSION: "compat.causal_conv1d_cuda",
}


def install(force: bool = False) -> list[str]:
    """Makes ``import causal_conv1d`` give this package, and models already imported use it.

    Registers :mod:`causal_conv1d_mps.compat` and its modules in ``sys.modules``, the module
    ``causal_conv1d_cuda`` of older clients among them. ``importlib.metadata`` then has the version
    of the interface, 1.7.0, for ``causal-conv1d``. Modules that found no ``causal_conv1d`` when
    they were imported, those of transformers, mamba-ssm and fla among them, get our functions; so
    do the models of transformers that never look for the package (LFM3). May be called again, for
    what was imported since.

    Args:
        force: shadow another package of that name, and take its place in modules that use it.

    Returns:
        The functions that were bound anew, as "module.name".

    Raises:
        RuntimeError: another package has that name, and ``force`` is not set.
    """
    reason = None if force else obstacle()
    if reason is not None:
        raise RuntimeError(f"{reason}. install(force=True) puts causal-conv1d-mps in its place")
    from .distribution import answer

    answer()
    modules = {n: importlib.import_module(f"{_OURS}.{m}") for n, m in _MODULES.items()}
    # The distribution causal-conv1d-mps-compat may be there already: it has the same functions.
    sys.modules.update(modules)
    del modules[_EXTENSION]  # clients hold the module, and its functions by no other name
    functions = {
        n: getattr(m, n) for m in modules.values() for n in m.__all__ if n.startswith(_NAME)
    }
    bound = []
    for module_name, module in list(sys.modules.items()):
        if module is None or module_name.split(".")[0] in (_NAME, _EXTENSION, _OURS):
            continue
        for name, function in functions.items():
            # fla calls them causal_conv1d_fn_cuda and so on.
            for alias in (name, f"{name}_cuda"):
                if _bind(module, alias, function, force):
                    bound.append(f"{module_name}.{alias}")
    return bound


def obstacle() -> str | None:
    """Why :func:`install` would refuse, or None."""
    for name, function in ((_NAME, "causal_conv1d_fn"), (_EXTENSION, "causal_conv1d_fwd")):
        try:
            if importlib.util.find_spec(name) is None:
                continue
            found = importlib.import_module(name)
            if _root(getattr(found, function)) == _OURS:
                continue
        except Exception as error:  # a package for another CUDA or PyTorch raises all kinds
            return f"Another {name} package is installed and fails to import ({error!r})"
        version = getattr(found, "__version__", "")
        return f"{name} {version} of {found.__file__} is another package"
    return None


def serves() -> bool:
    """Whether ``import causal_conv1d`` gives this package."""
    return obstacle() is None and importlib.util.find_spec(_NAME) is not None


def state() -> str:
    """What ``import causal_conv1d`` gives here."""
    reason = obstacle()
    if reason is not None:
        return reason
    found = importlib.util.find_spec(_NAME)
    if found is None:
        return (
            f"no package has this name, so a plain script does not get {_OURS}: pip install "
            f"./compat (in its sources), or python -m {_OURS} install script.py"
        )
    return f"this package, by {found.origin}"


def _root(function: Any) -> str:
    """The top-level package of a function, or of a module."""
    place = "__name__" if isinstance(function, ModuleType) else "__module__"
    return (getattr(function, place, None) or "").split(".")[0]


def _bind(module: ModuleType, name: str, function: Any, force: bool) -> bool:
    """Makes ``module.name`` call ``function`` if it stands for it and does not yet."""
    old = getattr(module, "__dict__", {}).get(name, module)
    if old is module:  # no such name
        return False
    if module.__name__.startswith("transformers.models."):
        return _bind_transformers(module, name, old, force)
    foreign = force and _root(old) in (_NAME, _EXTENSION)
    if old is not None and not foreign:
        return False
    setattr(module, name, function)
    return True


def _bind_transformers(module: ModuleType, name: str, old: Any, force: bool) -> bool:
    """A model's function is PyTorch code behind a decorator that chose what to call when the model
    was imported: the decorator chooses again."""
    hub_kernels = importlib.import_module("transformers.integrations.hub_kernels")

    # With the package ``kernels`` the function is the forward of a module of its own class.
    is_layer = hasattr(type(old), "kernel_layer_name")
    wrapper = _free_variable(type(old).forward, "func") if is_layer else old
    if not callable(wrapper):
        return False
    chosen = _free_variable(wrapper, "implementation")
    plain = getattr(wrapper, "__wrapped__", wrapper)
    if _root(chosen) == _OURS or (chosen not in (None, plain) and not force):
        return False
    new = hub_kernels.use_kernel_func_from_hub_with_fallback(name, _NAME)(plain)
    if is_layer:  # instances are in the models: their class is changed
        type(old).forward = type(new).forward
    else:
        setattr(module, name, new)
    return True


def _free_variable(function: Any, name: str) -> Any:
    names = function.__code__.co_freevars
    return function.__closure__[names.index(name)].cell_contents if name in names else None
