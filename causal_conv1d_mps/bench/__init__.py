"""How fast causal_conv1d_mps is, against PyTorch, torch.compile and what memory allows at all.

Every figure is a whole Python call.  In each round every contender is timed once, in random order.
A slow moment of the machine then meets all contenders alike, and none always runs right behind the
same other one.  Tables show the minima.

On a GPU calls are timed in batches, at the end of which the host waits.  "host" is the time until
a call returns, the GPU still at work: where the call takes no longer, the GPU waits for the host.
"GPU" is the time of a call in a replayed CUDA graph.

The floor that memory sets is ``x.clone()``, as whatever returns a new tensor allocates and writes
as much; for a backward pass, which reads x and dout and writes dx, it is ``x + dout``.  Linux sets
a lower one to us, from 32 MiB on: we ask it for huge pages, and PyTorch does not.
"""

from .options import arguments


def main() -> int:
    """0: all was right; 1: something was wrong; 2: the device cannot be used."""
    args = arguments()
    from .command import run  # needs rich, which --help does not

    return run(args)


__all__ = ["main"]
