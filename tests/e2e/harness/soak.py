"""A soak: nginx with Immure's module and two tokens, verified handshakes at a steady rate, and
faults one after the other, drawn at random."""

import os
import random
import time
from dataclasses import dataclass
from pathlib import Path

from . import audit, wire
from .faulty import faulty_modules
from .load import Load
from .nginx import Nginx, certificate_lines, module_lines
from .process import children, wait_until
from .soak_faults import FAULTS, make_shared_key
from .token import GRANTS, ActivatedImmured, SoftToken

TOKENS = ("one", "two")
SESSIONS = 8
RATE = 80
THREADS = 16
# Whatever a handshake waits for, it is given up after this many seconds: nginx's immure_timeout.
DEADLINE = 2.0
# A fault's end is followed by this much rest, at least.
REST = 1.0
# When a token is not back by then, it does not come back.
RECOVERY_TIMEOUT = 20
# To be reached: full rate again so soon after a fault has ended. A busy machine gets some more.
RECOVERY = 1.0
RECOVERY_LEEWAY = 1.0

# What a process may have more than when it was first looked at: connections of clients at that
# moment, arenas of threads that had not run yet.
BOUNDS = {"descriptors": 40, "threads": 2, "memory_kb": 24 * 1024}


@dataclass
class Event:
    """One fault, from when it began until the next one did (time.monotonic())."""

    fault: object
    begin: float
    end: float = 0.0
    recovery: float = 0.0


def process_use(pid):
    """Descriptors, threads and resident memory; None if it is gone."""
    try:
        status = dict(
            line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines()
        )
        return {
            "descriptors": len(os.listdir(f"/proc/{pid}/fd")),
            "threads": int(status["Threads"]),
            "memory_kb": int(status["VmRSS"].split()[0]),
        }
    except (FileNotFoundError, ProcessLookupError, KeyError):
        return None


class Soak:
    """with Soak(...) as soak: soak.run(seconds); then soak_report.report_of(soak)"""

    def __init__(
        self, stage, authority, directory, seed, faults=FAULTS,
        deadline=DEADLINE, recovery_leeway=RECOVERY_LEEWAY,
    ):
        self.stage, self.authority, self.directory = stage, authority, directory
        self.random = random.Random(seed)
        self.faults = faults
        self.deadline = deadline
        self.recovery_max = RECOVERY + recovery_leeway
        self.events, self.first_use, self.last_use = [], {}, {}
        self.rotations = self.log_seen = 0
        self.modules = faulty_modules(stage, directory, TOKENS)
        self.immured = ActivatedImmured(
            stage, directory / "immured", *self._token_sections(SoftToken(directory, TOKENS[0]))
        )
        self.nginx = None

    def _token_sections(self, token):
        token.add(TOKENS[1])
        sections = "".join(
            token.section(module=module.path, label=name).replace("[token soft]", f"[token {name}]")
            # Or the wrong signatures of one fault would be found with RSA keys alone.
            + f"max-sessions = {SESSIONS}\nverify-signatures = always\n"
            for name, module in zip(TOKENS, self.modules)
        )
        return sections + GRANTS, token.env | {"IMMURE_HSM_DELAY_MS": "2"}

    def __enter__(self):
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _start(self):
        self.immured.start()
        wait_until(self._all_ready, "both tokens")
        names = (("a", ()), ("b", ()), ("rsa", ("rsa:2048",)), ("rotated", ()))
        keys = [make_shared_key(self, n, f"{n}.immure.test", *algorithm) for n, algorithm in names]
        self.rotated_key, self.rotated_host = keys[-1], keys[-1].host
        conf = self.stage.write_openssl_conf(self.directory / "nginx.cnf", self.immured.socket)
        lines = module_lines(self.stage, self.immured.socket, int(self.deadline * 1000))
        self.nginx = Nginx(self.stage, self.directory / "nginx", conf, lines)
        self.nginx.configure(*((key.host, certificate_lines(key)) for key in keys)).start()
        self.load = Load(
            self.authority, self.nginx.port, [key.host for key in keys], threads=THREADS, rate=RATE
        )
        self.load.__enter__()

    def __exit__(self, *_):
        for module in self.modules:
            module.clear()
        if self.nginx is not None:
            self.load.__exit__()
            self.nginx.stop()
        self.immured.close()

    def audit_problems(self):
        """After the end: no signature that was sent is missing in the log, and its chain holds."""
        signed = audit.counts(self.immured.audit, "outcome")[("signed",)]
        made = self.load.succeeded
        return [] if signed >= made else [f"{signed} signatures in the audit log, not {made}"]

    # --- What immured says of itself

    def _status(self):
        """None: it does not answer just now."""
        try:
            with wire.Connection(self.immured.socket) as connection:
                return wire.status(connection)
        except OSError:
            return None

    def _all_ready(self):
        status = self._status()
        return status and all(token["state"] == "ready" for token in status["tokens"])

    def _signatures(self):
        status = self._status()
        if not status:
            return None
        counts = [token["signatures"] for token in status["tokens"]]
        ready = all(token["state"] == "ready" for token in status["tokens"])
        return (status["pid"], counts) if ready else None

    def _wait_for_recovery(self):
        """Until all tokens are ready and each has signed since."""
        first = wait_until(self._signatures, "the tokens' recovery", RECOVERY_TIMEOUT)

        def have_signed():
            nonlocal first
            now = self._signatures()
            if now and now[0] != first[0]:
                first = now
            return now and all(new > old for new, old in zip(now[1], first[1]))

        wait_until(have_signed, "signatures of both tokens", RECOVERY_TIMEOUT)

    # --- The run

    def _pids(self):
        pids = {"nginx": [self.nginx.pid(), *self.nginx.workers()]}
        pids["immured"] = [self.immured.process.pid, *children(self.immured.process.pid)]
        return [(name, pid) for name in pids for pid in pids[name]]

    def _look_at_processes(self):
        for name, pid in self._pids():
            use = process_use(pid)
            if use is not None:
                self.first_use.setdefault((name, pid), use)
                self.last_use[name, pid] = use

    def _suffer(self, fault):
        modules = self.random.sample(self.modules, fault.tokens)
        self.log_seen = len(self.immured.log())
        event = Event(fault, time.monotonic())
        self.events.append(event)
        fault.begin(self, modules)
        time.sleep(self.random.uniform(*fault.hold))
        fault.end(self, modules)
        event.end = time.monotonic()
        self._wait_for_recovery()
        event.recovery = time.monotonic() - event.end
        time.sleep(self.random.uniform(REST, REST + 0.5))
        self._look_at_processes()

    def run(self, seconds, tell=lambda text: None):
        """All faults in random order, again and again, until the time is over."""
        deadline, deck = time.monotonic() + seconds, []
        time.sleep(REST)
        self._look_at_processes()
        while time.monotonic() < deadline:
            deck = deck or self.random.sample(self.faults, len(self.faults))
            fault = deck.pop()
            self._suffer(fault)
            tell(
                f"{fault.name}: back after {self.events[-1].recovery:.2f} s;"
                f" {self.load.succeeded} handshakes so far, {len(self.load.failures)} failed"
            )
        self.load.pause()
        self.final_status = wait_until(self._idle_status, "the end of all requests")

    def _idle_status(self):
        """immured's status when nothing is under way any more."""
        status = self._status()
        idle = status and all(t["in_flight"] == t["waiting"] == 0 for t in status["tokens"])
        return status if idle else None
