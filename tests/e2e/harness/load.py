"""A bounded load of full, verified TLS handshakes, to run while something is being done."""

import socket
import ssl
import threading
import time

# A handshake that has to wait for a new immured takes its time, but never as long as this.
HANDSHAKE_TIMEOUT = 15


class Load:
    """with Load(...) as load: do things; load.check()"""

    def __init__(self, authority, port, hosts, threads=4):
        self.port = port
        self.hosts = list(hosts)
        self.succeeded = 0
        self.slowest = 0.0
        self.failures = []
        self.context = ssl.create_default_context(cafile=authority.certificate)
        self.lock = threading.Lock()
        self.ended = threading.Event()
        self.may_run = threading.Event()
        self.threads = [threading.Thread(target=self._run, args=(n,)) for n in range(threads)]
        self.idle = threading.Semaphore(0)

    def __enter__(self):
        self.may_run.set()
        for thread in self.threads:
            thread.start()
        self.wait_for(len(self.threads))
        return self

    def __exit__(self, *_):
        self.ended.set()
        self.may_run.set()
        for thread in self.threads:
            thread.join()

    def wait_for(self, handshakes, timeout=30):
        """Waits until so many more handshakes have ended well."""
        goal, deadline = self.succeeded + handshakes, time.monotonic() + timeout
        while self.succeeded < goal:
            assert time.monotonic() < deadline, f"{goal - self.succeeded} missing; {self}"
            time.sleep(0.01)

    def pause(self):
        """Returns when no handshake is under way."""
        self.may_run.clear()
        for _ in self.threads:
            self.idle.acquire()

    def resume(self):
        self.may_run.set()

    def check(self):
        """No handshake failed, neither during what was done nor after it."""
        self.wait_for(2 * len(self.threads))
        assert not self.failures, str(self)

    def __str__(self):
        return (
            f"{self.succeeded} handshakes, slowest {self.slowest:.2f} s, "
            f"{len(self.failures)} failed: {self.failures[:5]}"
        )

    def _run(self, number):
        while not self.ended.is_set():
            if not self.may_run.is_set():
                self.idle.release()
                self.may_run.wait()
                continue
            self._handshake(self.hosts[number % len(self.hosts)])
            number += 1

    def _handshake(self, host):
        start = time.monotonic()
        try:
            address = ("127.0.0.1", self.port)
            with socket.create_connection(address, HANDSHAKE_TIMEOUT) as plain:
                with self.context.wrap_socket(plain, server_hostname=host):
                    taken = time.monotonic() - start
        except OSError as error:
            with self.lock:
                self.failures.append(f"{host}: {error}")
            return
        with self.lock:
            self.succeeded += 1
            self.slowest = max(self.slowest, taken)
