"""Full handshakes a second: each variant against a key in a file."""

import random
from collections import defaultdict
from dataclasses import asdict
from statistics import median

from ..client import handshakes, warm_up
from ..lab import FILE, HAPROXY_FILE, LIBP11, SYNC, Device
from ..plan import SESSIONS
from ..table import Table, spread


def is_slow(cell, variant):
    """Each worker signs one after another: a pass over all clients takes many seconds."""
    return cell.device.delay_ms >= 20 and variant in (LIBP11, SYNC)


def timing(plan, cell, variant):
    """(warm-up, seconds): at least a pass over all clients each."""
    if not is_slow(cell, variant):
        return plan.warm_up, plan.seconds
    one_pass = cell.clients * cell.device.delay_ms / 1000 / cell.workers * 1.2
    return one_pass, one_pass


def run_one(lab, plan, cell, variant):
    server, immured = lab.server(variant, cell.workers, cell.device, cell.sessions)
    unmeasured, measured = timing(plan, cell, variant)
    return handshakes(
        lab, server, immured, lab.keys[cell.kind].host, "--clients", cell.clients,
        "--seconds", unmeasured + measured, "--warm-up", unmeasured,
    )


def run_all(lab, plan, progress):
    """{(cell, variant): {round: Sample}}; the variants of a cell one after the other, so that
    what the machine does meanwhile is the same for them."""
    samples = defaultdict(dict)
    for number in range(max(cell.rounds for cell in plan.cells)):
        cells = [cell for cell in plan.cells if number < cell.rounds]
        for cell in random.sample(cells, len(cells)):
            for variant in random.sample(cell.variants, len(cell.variants)):
                if is_slow(cell, variant) and (number > 0 or not plan.with_slow_runs):
                    continue
                sample = run_one(lab, plan, cell, variant)
                samples[cell, variant][number] = sample
                progress(f"round {number + 1}: {cell}: {variant}: {sample.rate:.0f}/s")
    return samples


def ratios(samples, cell, variant):
    """Each round's rate relative to that of a key in a file."""
    base = samples[cell, cell.variants[0]]
    return [sample.rate / base[n].rate for n, sample in samples[cell, variant].items()]


def row(samples, cell, variant):
    mine = list(samples[cell, variant].values())
    relative = ratios(samples, cell, variant)
    is_base = variant in (FILE, HAPROXY_FILE)
    return [
        cell.token, cell.kind, cell.workers, cell.clients, variant,
        median(s.rate for s in mine), median(relative), "" if is_base else spread(relative),
        sum(s.failed for s in mine), median(s.p50 for s in mine), median(s.p99 for s in mine),
        median(s.cpu for s in mine),
    ]


def measure(lab, plan, progress):
    for cell in plan.cells:
        for variant in cell.variants:
            server, _ = lab.server(variant, cell.workers, cell.device, cell.sessions)
            warm_up(lab, server, lab.keys[cell.kind].host)
    samples = run_all(lab, plan, progress)
    made = [(c, v) for c in plan.cells for v in c.variants if (c, v) in samples]
    client = median(s.client_cpu for rounds in samples.values() for s in rounds.values())
    return [
        Table(
            "handshake_rate", "Full TLS 1.3 handshakes",
            ["token", "key", "workers", "clients", "variant", "rate/s", "ratio", "min..max",
             "failed", "p50 ms", "p99 ms", "CPU us"],
            [row(samples, *pair) for pair in made],
            [
                "Medians of the rounds. The ratio is to a key in a file of the same server in the "
                "same round. CPU is that of the server's processes and immured's, a handshake; the "
                f"client's own is {client:.0f} us.",
                "SoftHSM signs with the CPUs of this host. \"Elsewhere\": the pause is all that a "
                "signature costs this host, as with an HSM in a network.",
                "immured's max-sessions: "
                + ", ".join(f"{count} with {Device(ms)}" for ms, count in SESSIONS.items()) + ".",
            ],
            [
                {"server": c.server, "cell": str(c), "token": c.token, "key": c.kind,
                 "workers": c.workers, "variant": v, "ratios": ratios(samples, c, v),
                 "samples": [asdict(s) for s in samples[c, v].values()]}
                for c, v in made
            ],
        )
    ]
