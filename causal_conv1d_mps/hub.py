"""Layers for the package ``kernels`` of Hugging Face: see ``compat/hub``."""

from .compat.hub import REPOSITORY, register

__all__ = ["REPOSITORY", "register"]
