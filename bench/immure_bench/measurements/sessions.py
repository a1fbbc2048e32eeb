"""What immured's max-sessions is worth with a token that takes 2 ms."""

import random
from collections import defaultdict
from statistics import median

from ..client import handshakes, warm_up
from ..lab import ASYNC, Device
from ..plan import CLIENTS
from ..table import Table

DEVICE = Device(2)


def measure(lab, plan, progress):
    host = lab.keys["P-256"].host
    samples = defaultdict(list)
    for sessions in plan.session_counts:
        warm_up(lab, lab.server(ASYNC, 2, DEVICE, sessions)[0], host)
    for _ in range(plan.session_rounds):
        for sessions in random.sample(plan.session_counts, len(plan.session_counts)):
            server, immured = lab.server(ASYNC, 2, DEVICE, sessions)
            sample = handshakes(
                lab, server, immured, host, "--clients", CLIENTS[DEVICE.delay_ms],
                "--seconds", plan.warm_up + plan.seconds, "--warm-up", plan.warm_up,
            )
            samples[sessions].append(sample)
            progress(f"max-sessions {sessions}: {sample.rate:.0f}/s")
    rows = [
        [n, median(s.rate for s in samples[n]), n * 1000 / DEVICE.delay_ms,
         sum(s.failed for s in samples[n]), median(s.p50 for s in samples[n])]
        for n in plan.session_counts
    ]
    return [
        Table(
            "sessions", f"Handshakes by immured's max-sessions (P-256, {DEVICE}, 2 workers)",
            ["max-sessions", "rate/s", "token's limit/s", "failed", "p50 ms"], rows,
            ["The token's limit is what so many sessions could sign if nothing else took time."],
        )
    ]
