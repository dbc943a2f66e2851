"""How a program gets to a Ray: it starts one on this machine, or goes to a cluster.

What its nodes must be able to do is in `baselines.ray_nodes`, what they do in
`baselines.ray_workers`.
"""

from __future__ import annotations

import atexit
import os
import secrets
import shutil
import signal
import socket
import sys
import tempfile
from types import ModuleType
from typing import Any

from tiegym.runs.input_errors import InputError
from tiegym.runs.processes import SIGNALS

CONNECT_SECONDS = 5.0
"""Within which something must listen at an address; that it is a Ray shows within a minute."""
STORE_BYTES = 80 * 2**20
"""Of shared memory for a Ray that is started here, about the least it takes: what is sent are names
of folders and outcomes."""


def connect(address: str, cores: int | None = None) -> ModuleType:
    """Starts a Ray on this machine, or goes to one, unless the program has done so before.

    A Ray that is started here ends with the program, listens on no network, and reports to nobody.

    Args:
        address: "local", "auto" or HOST:PORT.
        cores: That are used at a time: a Ray that is started here has a process ready for each.
            None are all.

    Returns:
        The package `ray`.

    Raises:
        InputError: If Ray isn't installed or can't be started, if there is no cluster, or if it
            has other versions of Ray or Python.
    """
    if address == "auto":
        address = os.environ.get("RAY_ADDRESS", "auto")
    if ":" in address:
        _check_listening(address)
    ray = _import_ray(local=address == "local")
    if ray.is_initialized():
        here = ray.get_runtime_context().gcs_address
        if ":" in address and address != here:
            raise InputError(f"engine: this program uses the Ray at {here}, not {address}")
        return ray
    before = {n: signal.getsignal(n) for n in SIGNALS}
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    try:
        if address == "local":
            # A short path: sockets lie in it, and theirs may have 107 characters.
            folder = tempfile.mkdtemp(prefix="tiegym-ray-", dir="/tmp")
            atexit.register(_end, ray, folder)
            # What Ray starts inherits it: this program hears of the end of its terminal, and stops.
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
            ray.init(
                "local",
                num_cpus=cores and min(cores, os.cpu_count() or 1),
                include_dashboard=False,
                object_store_memory=STORE_BYTES,
                _temp_dir=folder,
                **quiet,
            )
        else:
            ray.init(address, **quiet)
    except (ConnectionError, OSError, RuntimeError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        if address == "local":
            raise InputError(f"engine: no Ray could be started here: {reason}") from error
        raise InputError(
            f"engine: no Ray cluster can be used at {address}: {reason} (one with a token needs "
            "RAY_AUTH_MODE=token and the token here, too)"
        ) from error
    finally:
        for number, handler in before.items():  # Ray has set its own
            signal.signal(number, handler or signal.SIG_DFL)
    return ray


def _check_listening(address: str) -> None:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
    except (OSError, OverflowError, ValueError) as error:  # no port, a host that is no name
        raise InputError(
            f"engine: no Ray cluster can be reached at {address}: {error}. `ray status` on one of "
            "its nodes says whether it runs; a driver must be on one of them, too"
        ) from error


def _import_ray(local: bool) -> ModuleType:
    if "ray" not in sys.modules:  # which reads these when it is imported
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_NUM_REDIS_GET_RETRIES", "20" if local else "1")
        if local:
            os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # 0: no network
            # Other users of this machine don't know the token. Else Ray writes one into the home.
            os.environ.setdefault("RAY_AUTH_MODE", "token")
            os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    try:
        import ray
        import ray._private.worker
    except ImportError as error:
        raise InputError(
            f"engine: Ray isn't installed ({error}): pip install 'tiegym[ray]', or take "
            "--engine processes"
        ) from error
    ray._private.worker._worker_logs_enabled = False  # it reports deaths on stdout, as we do
    return ray


def _end(ray: ModuleType, folder: str) -> None:
    ray.shutdown()
    shutil.rmtree(folder, ignore_errors=True)  # its processes may still be closing their logs
