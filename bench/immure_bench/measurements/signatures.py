"""What a signature costs on top of C_Sign, with a token that does nothing."""

import json

from ..lab import Device, run
from ..table import Table

SESSIONS = 64


def measure(lab, plan, progress):
    immured = lab.immured(Device(0, elsewhere=True), SESSIONS)
    conf = lab.stage.write_openssl_conf(lab.directory / "signatures.cnf", immured.socket)
    rows = []
    for threads in plan.signature_threads:
        found = json.loads(
            run(
                *(lab.stage.signatures, "--threads", threads, "--rounds", plan.signature_rounds),
                *("--immured", immured.workers()[0], lab.keys["P-256"].reference),
                env=lab.stage.host_env(conf), timeout=300,
            ).stdout
        )
        bare, signature = found["round_trip"], found["signature"]
        cpu = signature["client_cpu"] + signature["immured_cpu"]
        rows.append(
            [threads, signature["rate"], signature["p50"], signature["p99"], bare["p50"],
             found["p50_ratio"], cpu, signature["immured_cpu"]]
        )
        progress(f"{threads} threads: {signature['p50']:.0f} us, {cpu:.0f} us of CPU")
    return [
        Table(
            "signatures", "A signature by EVP_DigestSign(), on top of C_Sign (P-256)",
            ["threads", "rate/s", "p50 us", "p99 us", "round trip p50 us", "ratio", "CPU us",
             "of it immured"],
            rows,
            [
                "The token does nothing. A round trip is one of bare datagrams of the same sizes "
                "between two processes, measured in turn. CPU is the caller's, OpenSSL's part "
                "included, and immured's.",
            ],
        )
    ]
