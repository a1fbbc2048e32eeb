"""Requests on connections that are there already, while handshakes come as fast as they can."""

import random
import time
from collections import defaultdict
from statistics import median

from ..client import Storm, warm_up, wrk
from ..lab import ASYNC, FILE, LIBP11, SOFT, Device
from ..plan import SESSIONS
from ..table import Table, spread

DEVICE = Device(2)
CONNECTIONS = 8
STORM_CLIENTS = 64
VARIANTS = (FILE, LIBP11, ASYNC)
STORM_LEAD = 0.3  # seconds by which it begins before wrk, and ends after it


def nginx(lab, variant, workers, multi_accept):
    return lab.nginx(
        variant, workers, SOFT if variant == FILE else DEVICE, SESSIONS[DEVICE.delay_ms],
        f" multi_accept {multi_accept};",
    )


def run_one(lab, plan, variant, workers, multi_accept):
    server = nginx(lab, variant, workers, multi_accept)
    seconds = plan.wrk_seconds + 2 * STORM_LEAD
    with Storm(lab, server, lab.keys["P-256"].host, STORM_CLIENTS, seconds) as storm:
        time.sleep(STORM_LEAD)
        requests = wrk(server.port, CONNECTIONS, plan.wrk_seconds)
    return requests, storm.result


def rows_of(samples, cell):
    base = samples[cell, FILE]
    for variant in VARIANTS:
        mine = samples[cell, variant]
        rates = [r.rate / b.rate for (r, _), (b, _) in zip(mine, base)]
        waits = [r.p50 / b.p50 for (r, _), (b, _) in zip(mine, base)]
        yield [
            *cell, variant, median(r.rate for r, _ in mine), median(rates),
            "" if variant == FILE else spread(rates), median(r.p50 for r, _ in mine),
            median(waits), median(r.p99 for r, _ in mine), median(s["rate"] for _, s in mine),
            sum(r.failed + s["failed"] for r, s in mine),
        ]


def measure(lab, plan, progress):
    samples = defaultdict(list)
    for workers, multi_accept in plan.established:
        for variant in VARIANTS:
            warm_up(lab, nginx(lab, variant, workers, multi_accept), lab.keys["P-256"].host)
    for _ in range(plan.established_rounds):
        for cell in random.sample(plan.established, len(plan.established)):
            for variant in random.sample(VARIANTS, len(VARIANTS)):
                requests, storm = run_one(lab, plan, variant, *cell)
                samples[cell, variant].append((requests, storm))
                progress(
                    f"{cell[0]} workers, multi_accept {cell[1]}: {variant}: "
                    f"{requests.rate:.0f} requests/s, p50 {requests.p50:.2f} ms"
                )
    return [
        Table(
            "established",
            f"Requests on {CONNECTIONS} established connections during a handshake storm "
            f"(P-256, {DEVICE}, {STORM_CLIENTS} clients)",
            ["workers", "multi_accept", "variant", "requests/s", "ratio", "min..max", "p50 ms",
             "p50 ratio", "p99 ms", "handshakes/s", "failed"],
            [row for cell in plan.established for row in rows_of(samples, cell)],
            ["The key in a file has no delay. Requests are wrk's, small ones."],
        )
    ]
