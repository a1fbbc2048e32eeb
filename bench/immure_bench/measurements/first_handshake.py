"""The first handshake of a worker that a reload has started."""

import json
import random
from collections import defaultdict
from statistics import median

from ..client import command, run
from ..lab import ASYNC, FILE, LIBP11, SOFT, SYNC
from ..table import Table

VARIANTS = (FILE, LIBP11, SYNC, ASYNC)


def one_handshake(lab, nginx):
    result = run(*command(lab, nginx.port, lab.keys["P-256"].host, "--count", 1, "--clients", 1))
    return json.loads(result.stdout)["latency_ms"]["max"]


def measure(lab, plan, progress):
    first, later = defaultdict(list), defaultdict(list)
    for number in range(plan.reloads):
        for variant in random.sample(VARIANTS, len(VARIANTS)):
            nginx = lab.server(variant, 1, SOFT, 16)[0]
            nginx.reload()
            nginx.wait_for_old_workers()
            first[variant].append(one_handshake(lab, nginx))
            later[variant] += [one_handshake(lab, nginx) for _ in range(5)]
        progress(f"reload {number + 1} of {plan.reloads}")
    rows = [
        [v, median(first[v]), min(first[v]), max(first[v]), median(later[v])] for v in VARIANTS
    ]
    return [
        Table(
            "first_handshake", "First handshake of a new worker (P-256, SoftHSM), in ms",
            ["variant", "first: median", "min", "max", "later ones: median"], rows,
            [f"After {plan.reloads} reloads of nginx with one worker."],
        )
    ]
