"""The shader as GPU compilers get it: one text, its parts joined as the build joins them."""

import subprocess
from pathlib import Path

GPU = Path(__file__).resolve().parents[2] / "src/gpu"


def shader_text() -> str:
    """causal_conv1d.metal with its parts."""
    command = ["awk", "-v", "join=1", "-f", "embed.awk", "causal_conv1d.metal"]
    return subprocess.run(command, cwd=GPU, check=True, capture_output=True, text=True).stdout
