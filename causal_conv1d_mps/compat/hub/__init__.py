"""For models that ``kernels`` of Hugging Face converts (``use_kernels=True`` in transformers):
layers in a local kernel repository, and their registration."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

__all__ = ["REPOSITORY", "register"]

# Laid out as on the Hub, for kernels.LocalLayerRepository and LOCAL_KERNELS=name=path. It holds no
# code of its own: its layers import this package.
REPOSITORY = Path(__file__).parent
_LAYERS = ("causal_conv1d_fn", "causal_conv1d_update")


def register(devices: Iterable[str] = ("cpu", "mps")) -> None:
    """Maps the layers ``causal_conv1d_fn`` and ``causal_conv1d_update`` to ours on some devices.

    Models that are converted afterwards (``kernels.kernelize``, ``use_kernels=True``) call our
    functions there. Other devices and layers keep what they have.

    Raises:
        ImportError: the package ``kernels`` is not installed.
    """
    from kernels import (  # type: ignore[import-not-found]  # pyright: ignore[reportMissingImports]
        LocalLayerRepository,
        register_kernel_mapping,
    )

    register_kernel_mapping(
        {
            name: {device: LocalLayerRepository(REPOSITORY, layer_name=name) for device in devices}
            for name in _LAYERS
        }
    )
