"""Many clients at once: verified handshakes, to run while something is being done, and bad ones."""

import json
import re
import socket
import ssl
import threading
import time
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor

from . import wire
from .clients import client_hello, handshake
from .process import run
from .stage import BUILD

# A handshake that has to wait for a new immured takes its time, but never as long as this.
HANDSHAKE_TIMEOUT = 15
# Seconds; who is refused at once and comes again at once takes the CPU from what is to serve it.
AFTER_FAILURE = 0.02


# When it began (time.monotonic()), how many seconds it took, and why it failed, or None.
Handshake = namedtuple("Handshake", "start taken failure")


class Load:
    """with Load(...) as load: do things; load.check(). `rate`: handshakes a second, or as many as
    the threads can."""

    def __init__(self, authority, port, hosts, threads=4, rate=None):
        self.port = port
        self.hosts = list(hosts)
        self.pause_between = threads / rate if rate else 0
        self.handshakes = []
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
        try:
            self.wait_for(len(self.threads))
        except AssertionError:
            self.__exit__()
            raise
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

    def check(self, excused=None):
        """No handshake failed, neither during what was done nor after it; but for failures whose
        words match `excused`."""
        self.wait_for(2 * len(self.threads))
        assert all(excused and re.search(excused, words) for words in self.failures), str(self)

    def __str__(self):
        return (
            f"{self.succeeded} handshakes, slowest {self.slowest:.2f} s, "
            f"{len(self.failures)} failed: {self.failures[:5]}"
        )

    def _run(self, number):
        due = time.monotonic() + self.pause_between * number / len(self.threads)
        while not self.ended.wait(max(0, due - time.monotonic())):
            # What was missed while one took long is not made up for.
            due = max(due + self.pause_between, time.monotonic())
            if not self.may_run.is_set():
                self.idle.release()
                self.may_run.wait()
                continue
            if not self._handshake(self.hosts[number % len(self.hosts)]):
                self.ended.wait(AFTER_FAILURE)
            number += 1

    def _handshake(self, host):
        """Whether it ended well."""
        start, failure = time.monotonic(), None
        try:
            address = ("127.0.0.1", self.port)
            with socket.create_connection(address, HANDSHAKE_TIMEOUT) as plain:
                with self.context.wrap_socket(plain, server_hostname=host):
                    taken = time.monotonic() - start
        except OSError as error:
            failure, taken = f"{host}: {error}", time.monotonic() - start
        with self.lock:
            self.handshakes.append(Handshake(start, taken, failure))
            if failure:
                self.failures.append(failure)
            else:
                self.succeeded += 1
                self.slowest = max(self.slowest, taken)
        return failure is None


def many_handshakes(authority, port, host, count=12):
    """So many verified handshakes at once."""
    with ThreadPoolExecutor(count) as pool:
        results = [pool.submit(handshake, authority, port, host) for _ in range(count)]
        assert all(result.result().startswith("TLSv1.") for result in results)


def most_in_flight(immured, work):
    """Runs `work`; the most calls that immured had in flight meanwhile."""
    most = 0
    with ThreadPoolExecutor(1) as pool, wire.Connection(immured.socket) as connection:
        future = pool.submit(work)
        while not future.done():
            most = max(most, wire.status(connection)["tokens"][0]["in_flight"])
            time.sleep(0.005)  # the clients want the CPU, too
        future.result()
    return most


def handshakes(port, host, **options):
    """A load of bench/handshakes, the cheap client; its options, and what it says."""
    words = [word for name, value in options.items() for word in (f"--{name}", value)]
    command = (BUILD / "bench/handshakes", "--connect", f"127.0.0.1:{port}", "--name", host, "--json")
    return json.loads(run(*command, *words, timeout=300, status=None).stdout)


def leave_in_the_middle(port, host, count):
    """Clients that send a hello and are gone before the signature is there, or send garbage."""
    hello = client_hello(host)
    sent = (hello, hello[:50], hello + b"garbage", b"GET / HTTP/1.0\r\n\r\n")
    for number in range(count):
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(sent[number % len(sent)])
            time.sleep(0.002)
