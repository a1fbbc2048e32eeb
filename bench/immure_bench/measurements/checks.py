"""What immured does of its own for each signature: the check of the message, and the audit log."""

import json
import statistics

from ..lab import run
from ..table import Table

ROUNDS = 5
THREADS = (1, 2, 4)


def measure(lab, plan, progress):
    directory = lab.directory / "checks"
    directory.mkdir()
    rows = []
    for threads in THREADS:
        command = (lab.stage.checks, "--threads", threads, directory)
        found = [json.loads(run(*command, timeout=300).stdout) for _ in range(ROUNDS)]
        median = {name: statistics.median(each[name] for each in found) for name in found[0]}
        dearer = max(median["tls13"], median["tls12"])
        rows.append([threads, *(value / 1000 for value in median.values()), (dearer + median["audit"]) / 1000])
        progress(f"{threads} threads: {rows[-1][-1]:.2f} us")
    return [
        Table(
            "checks", "immured's checks and the audit log, a signature",
            ["threads", "TLS 1.3 us", "TLS 1.2 us", "audit us", "together us"],
            rows,
            [
                "CPU time, medians. The message is checked to its last byte, with one grant that "
                "has a rate; the use is counted in the table of the audit log. Threads do nothing "
                "else, and so get in each other's way as they never do when tokens sign.",
            ],
        )
    ]
