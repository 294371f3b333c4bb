"""What a computation costs."""

import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch


def peak_memory_bytes(computation: Callable[[], object], device: torch.device) -> int:
    """Peak of the memory that a computation holds in tensors beyond what it found, in bytes.

    On CUDA the allocator counts. On the CPU the profiler reports every allocation and release, so the figure
    is exact and does not depend on what else the process holds.
    """
    computation()  # what is made once and kept (thread pools, buffers of kernels) is not its peak
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        computation()
        torch.cuda.synchronize(device)
        return int(torch.cuda.max_memory_allocated(device) - before)
    activities = [torch.profiler.ProfilerActivity.CPU]
    # acc_events changes nothing for one cycle; without it, torch 2.10 warns.
    with (
        _silent_stderr(),
        torch.profiler.profile(activities=activities, profile_memory=True, acc_events=True) as profile,
    ):
        computation()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        with _silent_stderr():
            profile.export_chrome_trace(str(path))
        events = json.loads(path.read_text("utf-8"))["traceEvents"]
    changes = sorted((event["ts"], event["args"]["Bytes"]) for event in events if event.get("name") == "[memory]")
    held = peak = 0
    for _, change in changes:
        held += change
        peak = max(peak, held)
    return peak


@contextmanager
def _silent_stderr() -> Iterator[None]:
    """Hide what the profiler's native code writes about its stages; no setting of it does so."""
    sys.stderr.flush()
    kept = os.dup(2)
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
