"""The measurements, by name and in the order in which they are made. Each is a function of the
lab, the plan and a function that shows progress, and returns tables."""

from . import (
    checks,
    config_test,
    established,
    first_handshake,
    handshake_rate,
    memory,
    sessions,
    signatures,
)

MEASUREMENTS = {
    "handshake-rate": handshake_rate.measure,
    "sessions": sessions.measure,
    "signatures": signatures.measure,
    "checks": checks.measure,
    "established": established.measure,
    "first-handshake": first_handshake.measure,
    "config-test": config_test.measure,
    "memory": memory.measure,
}
