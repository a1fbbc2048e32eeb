"""The audit log, read without any of Immure's code."""

import hashlib
import json
import re
from collections import Counter


def lines(directory):
    """All lines of the log, with their ends, in the order of the files."""
    files = sorted(directory.glob("audit-????-??.log"))
    return [line for file in files for line in file.read_bytes().splitlines(keepends=True)]


def records(directory):
    """The records; each must follow from the one before, as doc/operations.md says."""
    found, previous = [], bytes(32)
    for number, line in enumerate(lines(directory), 1):
        body, digest = re.fullmatch(rb'(.*),"hash":"([0-9a-f]{64})"}\n', line).groups()
        previous = hashlib.sha256(previous + body).digest()
        assert previous.hex() == digest.decode(), f"the hash of record {number}"
        found.append(json.loads(line))
        assert found[-1]["n"] == number
    return found


def events(directory):
    return [record["event"] for record in records(directory) if "event" in record]


def counts(directory, *members):
    """How often each combination of these members occurs in the uses."""
    sums = Counter()
    for record in records(directory):
        if "event" not in record:
            sums[tuple(record[member] for member in members)] += record["count"]
    return sums


def head(directory):
    last = records(directory)[-1]
    return f"{last['n']}:{last['hash']}"
