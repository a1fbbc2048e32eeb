"""Memory of a worker, and of immured with one key and with many."""

import os
import subprocess
from pathlib import Path

from ..client import warm_up
from ..lab import (
    ASYNC,
    FILE,
    GRANTS,
    LIBP11,
    PIN,
    SOFT,
    SOFTHSM,
    SYNC,
    Immured,
    SoftToken,
    as_user,
    run,
)
from ..table import Table

VARIANTS = (FILE, LIBP11, SYNC, ASYNC)
HANDSHAKES = 500
# SoftHSM reads thousands of files when it is initialised.
START_TIMEOUT = 300
FIELDS = ("Rss", "Pss", "Private")


def memory(*pids):
    """MiB of the processes together, as FIELDS."""
    total = dict.fromkeys(FIELDS, 0.0)
    for pid in pids:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
            name, size = line.split(":")[0], int(line.split()[1]) / 1024
            name = "Private" if name in ("Private_Clean", "Private_Dirty") else name
            if name in total:
                total[name] += size
    return [total[name] for name in FIELDS]


def of_workers(lab, progress):
    rows = []
    for variant in VARIANTS:
        nginx = lab.server(variant, 1, SOFT, 16)[0]
        nginx.reload()
        nginx.wait_for_old_workers()
        warm_up(lab, nginx, lab.keys["P-256"].host, HANDSHAKES)
        rows.append([variant, *memory(*nginx.workers())])
        progress(f"worker: {variant}")
    base = rows[0]
    return Table(
        "worker_memory", "Memory of an nginx worker, in MiB",
        ["variant", "RSS", "PSS", "private", "private, on top of a file"],
        [[*row, row[3] - base[3]] for row in rows],
        [f"A new worker after {HANDSHAKES} handshakes, with a P-256 and an RSA-2048 key."],
    )


class KeysInToken:
    """A token with `count` P-256 keys that bench/token_keys.c makes; in memory, where making
    thousands takes seconds: on a disk SoftHSM takes some 30 ms for each."""

    def __init__(self, lab, count):
        self.lab, self.count = lab, count
        self.directory = lab.temporary_directory("/dev/shm")
        self.token = SoftToken(self.directory, f"keys-{count}")
        run(*self.command("make", count), env=self.env(), timeout=1800)

    def env(self):
        return os.environ | self.token.env

    def command(self, *what):
        program = self.lab.stage.token_keys
        return as_user(self.token.user, program, SOFTHSM, self.token.label, PIN, *map(str, what))

    def memory_of_module(self):
        """Of a process that has loaded SoftHSM, logged in and found the keys, and nothing else."""
        pipe = subprocess.PIPE
        with subprocess.Popen(self.command("hold"), env=self.env(), stdin=pipe, stdout=pipe) as holder:
            line = holder.stdout.readline().decode()
            assert line.startswith(f"{self.count} private keys"), line
            found = memory(holder.pid)
            holder.stdin.close()
        return found

    def memory_of_immured(self):
        """Of master and worker."""
        daemon = Immured(
            self.lab.stage, self.directory / "immured", self.token.section() + GRANTS,
            self.token.env,
        )
        try:
            daemon.start(START_TIMEOUT)
            assert f" {self.count} keys found" in daemon.log(), daemon.log()
            return memory(daemon.process.pid, *daemon.workers())
        finally:
            daemon.stop()


def of_immured(lab, counts, progress):
    rows = []
    for count in counts:
        keys = KeysInToken(lab, count)
        progress(f"{count} keys made")
        module, immured = keys.memory_of_module()[-1], keys.memory_of_immured()[-1]
        rows.append([count, immured, module, immured - module])
        progress(f"immured with {count} keys: {immured:.1f} MiB")
    return Table(
        "immured_memory", "Private memory of immured, in MiB",
        ["keys", "immured", "SoftHSM alone", "immured's own"], rows,
        ["Master and worker. SoftHSM alone: a process that has loaded it, logged in and found the "
         "same keys; the difference is what Immure adds."],
    )


def measure(lab, plan, progress):
    if not plan.memory_keys:
        return [of_workers(lab, progress)]
    return [of_workers(lab, progress), of_immured(lab, (1, plan.memory_keys), progress)]
