"""Running programs: all bounded in time, all ended by pid, with their output when they fail."""

import os
import re
import select
import signal
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path

PORTS_GIVEN = set()


def run(*command, env=None, input="", timeout=60, status=0, cwd=None):
    """Runs a command and returns its result; `status` is the one expected, None for any."""
    command = [str(word) for word in command]
    data = input if isinstance(input, bytes) else input.encode()
    result = subprocess.run(
        command, env=env, input=data, timeout=timeout, cwd=cwd, capture_output=True, check=False
    )
    result.text = (result.stdout + result.stderr).decode(errors="replace")
    if status is not None and result.returncode != status:
        raise AssertionError(
            f"exit status {result.returncode}, not {status}: {' '.join(command)}\n{result.text}"
        )
    return result


def wait_until(condition, what, timeout=30):
    """Returns what `condition()` returns as soon as it is true."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout} s: {what}")
        time.sleep(0.02)


def wait_for_words(server, *words, **options):
    """Waits until all of them are in the log of a server."""
    for said in words:
        wait_until(lambda: said in server.log(), f"{said!r} in the log", **options)


def free_port():
    """Never one twice: who got it may not listen on it yet."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        if port not in PORTS_GIVEN:
            PORTS_GIVEN.add(port)
            return port


def is_listening(port):
    """On 127.0.0.1; without a connection, which some servers would serve."""
    return f"0100007F:{port:04X} 00000000:0000 0A" in Path("/proc/net/tcp").read_text()


def descriptors(pids):
    """How many the processes have open, together."""
    return sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in pids)


def resident_kib(pids):
    """The memory of the processes that is not a file's, together."""
    status = [Path(f"/proc/{pid}/status").read_text() for pid in pids]
    return sum(int(re.search(r"^RssAnon:\s+(\d+) kB$", text, re.MULTILINE)[1]) for text in status)


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def children(pid):
    """The pids of a process's children."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rsplit(")", 1)[1].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[1]) == pid and fields[0] != "Z":
            found.append(int(stat.parent.name))
    return found


def insist(pid):
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def end(pid, ask=signal.SIGTERM, timeout=10):
    """Asks a process to end, and insists when it has not within `timeout`. True: it did as asked."""
    try:
        os.kill(pid, ask)
        wait_until(lambda: not is_running(pid), f"end of process {pid}", timeout)
        return True
    except ProcessLookupError:
        return True
    except AssertionError:
        for each in (*children(pid), pid):
            insist(each)
        return False


def read_until(terminal, wanted):
    """What the program on this terminal shows until then."""
    shown = b""
    while wanted not in shown:
        assert select.select([terminal], [], [], 10)[0], shown
        shown += os.read(terminal, 4096)
    return shown


def wait_for_end(pid, terminal):
    """Of a child on a terminal, with status 0. While nobody reads it, what is written may block."""
    while select.select([terminal], [], [], 10)[0]:
        try:
            os.read(terminal, 4096)
        except OSError:
            break
    os.close(terminal)
    assert os.waitpid(pid, 0)[1] == 0
