"""Whole images of the memory of running processes, and which secrets are in them."""

import re
import sys
from collections import namedtuple
from pathlib import Path

from .process import run

Mapping = namedtuple("Mapping", "start end access name locked resident_kib")
# `size` bytes in a row of a secret, from `offset`, are at `address`.
Finding = namedtuple("Finding", "secret offset size address mapping")
# `skipped`: the mappings that could not be read, or parts of them.
Image = namedtuple("Image", "bytes findings skipped")

# The kernel's own pages, which it lets nobody read in this way.
UNREADABLE = {"[vvar]", "[vvar_vclock]", "[vsyscall]"}
# A bit of a page's entry in pagemap.
GUARD = 1 << 58
PAGE = 4096


def mappings(pid):
    """All of a process's memory, as /proc/PID/smaps has it."""
    found = []
    for block in re.split(r"^(?=[0-9a-f]+-)", Path(f"/proc/{pid}/smaps").read_text(), flags=re.M)[1:]:
        start, end, access, name = re.match(r"(\w+)-(\w+) (\S+) \S+ \S+ \S+ *(.*)", block).groups()
        flags = re.search(r"^VmFlags:(.*)$", block, re.M)[1].split()
        sizes = re.findall(r"^(?:Rss|Swap): +(\d+) kB$", block, re.M)
        found.append(
            Mapping(int(start, 16), int(end, 16), access, name, "lo" in flags, sum(map(int, sizes)))
        )
    return found


def is_reserved(mapping):
    """Addresses without memory: nobody may read them, and nothing was ever written there."""
    return "r" not in mapping.access and mapping.resident_kib == 0


def is_guard(pid, address):
    """A page that madvise(2) made one nobody can read or write: glibc 2.42 ends stacks with them."""
    with open(f"/proc/{pid}/pagemap", "rb") as pagemap:
        pagemap.seek(address // PAGE * 8)
        return bool(int.from_bytes(pagemap.read(8), sys.byteorder) & GUARD)


def search(program, pid, secrets):
    """The Image of a process, searched for `secrets`: bytes by name. `program`: find_secrets."""
    names, mapped = list(secrets), [m for m in mappings(pid) if not is_reserved(m)]
    lines = [f"secret {secrets[name].hex()}" for name in names]
    lines += [f"region {m.start:x} {m.end:x}" for m in mapped]
    image = Image(0, [], set())
    for line in run(program, pid, input="\n".join(lines) + "\n").stdout.decode().splitlines():
        what, *numbers = line.split()
        if what == "searched":
            return image._replace(bytes=int(numbers[0]))
        address = int(numbers[-2 if what == "unread" else -1], 16)
        mapping = next(m for m in mapped if m.start <= address < m.end)
        if what == "unread":
            if not is_guard(pid, address):
                image.skipped.add(mapping.name)
        else:
            secret, offset, size = map(int, numbers[:3])
            image.findings.append(Finding(names[secret], offset, size, address, mapping))
    raise AssertionError("the search did not end")
