"""What a step costs: seconds on the device's own clock, and peak memory named for what it is."""

from __future__ import annotations

import sys
import time

import torch


class Stopwatch:
    """Marks points in time without waiting for the device.

    Args:
        device: A GPU's clock is its own queue's; elsewhere it is the wall clock.
    """

    def __init__(self, device: torch.device) -> None:
        """Makes the first mark."""
        self.device = device
        self._gpu = device.type == "cuda"
        self._events: list[torch.cuda.Event] = []
        self._times: list[float] = []
        self.mark()

    def mark(self) -> None:
        """Marks this point in the device's work."""
        if self._gpu:
            event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
            event.record(torch.cuda.current_stream(self.device))
            self._events.append(event)
        else:
            self._times.append(time.perf_counter())

    def seconds(self, k: int) -> float:
        """Seconds from mark k to mark k + 1; on a GPU after the work was waited for."""
        if self._gpu:
            return float(self._events[k].elapsed_time(self._events[k + 1])) / 1000
        return self._times[k + 1] - self._times[k]


def reset_peak_memory(device: torch.device) -> None:
    """Starts a new peak; a process's own peak can't be reset and covers its whole life."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_memory(device: torch.device) -> dict[str, int]:
    """Bytes: `peak_allocated_bytes` of a GPU's allocator, else `peak_process_bytes`.

    Empty where the operating system reports no peak.
    """
    if device.type == "cuda":
        return {"peak_allocated_bytes": torch.cuda.max_memory_allocated(device)}
    if sys.platform == "win32":
        return {}
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return {"peak_process_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit}


def step_stats(watch: Stopwatch, iterations: int) -> dict[str, float | int | str]:
    """What a step took, by three marks: before training, after it, and after the evaluation.

    Args:
        watch: After the device's work was waited for.
        iterations: Of training.
    """
    return {
        "seconds_training": watch.seconds(0),
        "seconds_evaluation": watch.seconds(1),
        "seconds_per_iteration": watch.seconds(0) / iterations,
        **peak_memory(watch.device),
    }
