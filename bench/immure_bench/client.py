"""The loads: handshakes from bench/handshakes.c, requests from wrk; and the CPU they cost."""

import json
import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from .lab import processes, run

TICKS = os.sysconf("SC_CLK_TCK")
# Longer than a queue of clients at a synchronous server with a slow token.
TIMEOUT_MS = 60000


@dataclass
class Sample:
    """One run; CPU is that of the server's processes and immured's, in us a handshake."""

    rate: float
    failed: int
    p50: float  # ms
    p99: float
    cpu: float
    client_cpu: float


def cpu_seconds(pids):
    """User and system time of processes so far."""
    total = 0
    for pid in pids:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        total += int(fields[11]) + int(fields[12])
    return total / TICKS


def command(lab, port, host, *options):
    return [
        *(lab.stage.handshakes, "--connect", f"127.0.0.1:{port}", "--name", host),
        *("--timeout", str(TIMEOUT_MS), "--json", *map(str, options)),
    ]


def handshakes(lab, server, immured, host, *options):
    """Runs the client against a server; a Sample."""
    pids = processes(server, immured)
    before = cpu_seconds(pids)
    result = run(*command(lab, server.port, host, *options), timeout=300, status=None)
    used = cpu_seconds(pids) - before
    assert result.returncode in (0, 1), result.text
    found = json.loads(result.stdout)
    latency, count = found["latency_ms"], found["handshakes"] + found["failed"]
    return Sample(
        found["rate"], found["failed"], latency["p50"], latency["p99"],
        used / max(count, 1) * 1e6, found["cpu_us_each"],
    )


def warm_up(lab, server, host, count=8):
    """First handshakes, which may be slower, or fail while a token is opened the first time."""
    return run(*command(lab, server.port, host, "--count", count, "--clients", 2), status=None)


class Storm:
    """with Storm(...): handshakes as fast as can be, for `seconds` at most."""

    def __init__(self, lab, server, host, clients, seconds):
        self.arguments = command(
            lab, server.port, host, "--clients", clients, "--seconds", seconds
        )
        self.process = None
        self.result = None

    def __enter__(self):
        self.process = subprocess.Popen(
            self.arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
        )
        return self

    def __exit__(self, kind, *_):
        if kind is not None:
            self.process.kill()
        output, _ = self.process.communicate()
        if kind is None:
            self.result = json.loads(output)


UNITS = {"us": 1e-3, "ms": 1.0, "s": 1e3, "m": 6e4}


@dataclass
class Requests:
    rate: float
    p50: float  # ms
    p99: float
    failed: int


def wrk(port, connections, seconds):
    """Requests on connections that are kept open."""
    text = run(
        *("wrk", "--latency", "--threads", 1, "--connections", connections),
        *("--duration", f"{seconds}s", "--timeout", "30s", f"https://127.0.0.1:{port}/"),
        timeout=seconds + 60,
    ).text

    def percentile(percent):
        found = re.search(rf"^\s+{percent}%\s+([\d.]+)(us|ms|s|m)$", text, re.MULTILINE)
        return float(found[1]) * UNITS[found[2]]

    errors = re.search(r"connect (\d+), read (\d+), write (\d+), timeout (\d+)", text)
    others = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    failed = sum(map(int, errors.groups())) if errors else 0
    rate = re.search(r"^Requests/sec:\s+([\d.]+)", text, re.MULTILINE)
    return Requests(
        float(rate[1]), percentile(50), percentile(99), failed + (int(others[1]) if others else 0)
    )
