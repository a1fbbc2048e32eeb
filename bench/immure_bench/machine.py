"""What it was measured on, without names of hosts or people."""

import os
import platform
import re
from pathlib import Path

from .lab import run

PACKAGES = ("openssl", "nginx", "haproxy", "softhsm2", "libengine-pkcs11-openssl", "wrk")


def _first(pattern, text, otherwise="unknown"):
    found = re.search(pattern, text, re.MULTILINE)
    return found[1].strip() if found else otherwise


def _package(name):
    result = run("dpkg-query", "-W", "-f", "${Version}", name, status=None)
    return result.stdout.decode() if result.returncode == 0 else "unknown"


def describe():
    """Pairs of a name and a value, in the order in which they are printed."""
    cpu = _first(r"^model name\s*:(.*)$", Path("/proc/cpuinfo").read_text())
    virtual = run("systemd-detect-virt", "--vm", status=None).stdout.decode().strip()
    memory = int(_first(r"^MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text(), "0"))
    return [
        ("CPU", f"{cpu}, {os.cpu_count()} logical CPUs"),
        ("virtual machine", virtual or "none"),
        ("memory", f"{memory / 1024 / 1024:.1f} GiB"),
        ("kernel", f"{platform.system()} {_first(r'^([0-9.]+)', platform.release())}"),
        ("system", _first(r'^PRETTY_NAME="(.*)"', Path("/etc/os-release").read_text())),
        *((name, _package(name)) for name in PACKAGES),
    ]
