"""How much is measured: all of it, or what fits into two minutes."""

import os
from dataclasses import dataclass, replace

from .lab import (
    ASYNC,
    FILE,
    HAPROXY_ASYNC,
    HAPROXY_FILE,
    HAPROXY_SYNC,
    LIBP11,
    SOFT,
    SYNC,
    Device,
)

NGINX = (FILE, LIBP11, SYNC, ASYNC)
HAPROXY = (HAPROXY_FILE, HAPROXY_SYNC, HAPROXY_ASYNC)
# Clients under way at a time, and max-sessions of immured, for each delay of the token in ms. The
# clients are as many as a fast server needs to be busy in spite of the delay; and immured has
# sessions enough for the rate of a key in a file: rate times delay, and some. A token in software
# signs with this host's CPUs, and more sessions than these gain nothing.
CLIENTS = {0: 16, 2: 128, 20: 512}
SESSIONS = {0: os.cpu_count(), 2: 64, 20: 256}


@dataclass(frozen=True)
class Cell:
    """What the variants of one comparison have in common."""

    kind: str
    workers: int
    device: Device
    variants: tuple
    rounds: int

    @property
    def clients(self):
        return CLIENTS[self.device.delay_ms]

    @property
    def sessions(self):
        return SESSIONS[self.device.delay_ms]

    @property
    def token(self):
        return str(self.device)

    @property
    def server(self):
        return "HAProxy" if self.variants[0] == HAPROXY_FILE else "nginx"

    def __str__(self):
        unit = "thread" if self.server == "HAProxy" else "worker"
        plural = "s" if self.workers > 1 else ""
        return f"{self.token}, {self.kind}, {self.workers} {unit}{plural}"


@dataclass(frozen=True)
class Plan:
    cells: tuple
    warm_up: float  # seconds of each run that are not measured
    seconds: float  # seconds of each run that are
    # Runs of synchronous servers with 20 ms take half a minute; they are made once.
    with_slow_runs: bool
    session_counts: tuple
    session_rounds: int
    established: tuple  # (workers, multi_accept)
    established_rounds: int
    wrk_seconds: int
    reloads: int
    references: int
    reference_rounds: int
    memory_keys: int  # 0: not measured
    signature_threads: tuple
    signature_rounds: int


def _cells(rounds):
    cells = []
    for delay in CLIENTS:
        device, count = Device(delay), min(rounds, 3) if delay == 20 else rounds
        for kind in ("P-256", "RSA-2048"):
            # What waits 20 ms for each signature hides the kind of key.
            blocks_long = delay == 20 and kind == "RSA-2048"
            nginx = (FILE, ASYNC) if blocks_long else NGINX
            haproxy = (HAPROXY_FILE, HAPROXY_ASYNC) if delay == 20 else HAPROXY
            cells += [Cell(kind, workers, device, nginx, count) for workers in (1, 2)]
            cells.append(Cell(kind, 2, device, haproxy, count))
        if delay:
            variants = (FILE, LIBP11, ASYNC) if delay == 2 else (FILE, ASYNC)
            elsewhere = Device(delay, elsewhere=True)
            cells += [Cell("P-256", workers, elsewhere, variants, count) for workers in (1, 2)]
    return tuple(cells)


FULL = Plan(
    cells=_cells(5), warm_up=0.6, seconds=1.4, with_slow_runs=True,
    session_counts=(1, 2, 4, 8, 16, 32, 64), session_rounds=3,
    established=((1, "off"), (1, "on"), (2, "off"), (2, "on")), established_rounds=3, wrk_seconds=2,
    reloads=10, references=10000, reference_rounds=3, memory_keys=10000,
    signature_threads=(1, 2, 4, 8, 16, 32, 64), signature_rounds=9,
)

QUICK = replace(
    FULL,
    cells=(
        Cell("P-256", 1, SOFT, NGINX, 2), Cell("P-256", 2, SOFT, NGINX, 2),
        Cell("RSA-2048", 2, SOFT, NGINX, 2), Cell("P-256", 2, Device(2), NGINX, 2),
        Cell("P-256", 2, Device(2, elsewhere=True), (FILE, ASYNC), 2),
        Cell("P-256", 2, Device(20), (FILE, ASYNC), 2), Cell("P-256", 2, Device(2), HAPROXY, 2),
    ),
    warm_up=0.3, seconds=0.7, with_slow_runs=False, session_counts=(4, 16, 64), session_rounds=1,
    established=((2, "off"),), established_rounds=1, reloads=3, references=1000,
    reference_rounds=2, memory_keys=0,
    signature_threads=(1, 16), signature_rounds=3,
)
