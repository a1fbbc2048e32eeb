"""nginx -t with many references against as many key files."""

import resource
import shutil
import time
from statistics import median

from ..lab import ASYNC, FILE, SOFT, BenchNginx, module_lines
from ..table import Table

VARIANTS = (FILE, ASYNC)
TIMEOUT = 600  # seconds
HASHES = "server_names_hash_max_size 131072; server_names_hash_bucket_size 128;"


def many_servers(lab, directory, variant, count):
    """A server for each of `count` copies of a key, or of its reference, and its certificate."""
    key = lab.keys["P-256"]
    source = key.file if variant == FILE else key.reference
    directory.mkdir(exist_ok=True)
    for number in range(count):
        shutil.copy(source, file := directory / f"{number}.{variant}.pem")
        shutil.copy(key.certificate, certificate := directory / f"{number}.crt")
        lines = f'ssl_certificate {certificate}; ssl_certificate_key "{file}";'
        yield f"{number}.immure.test", lines


def prepare(lab, variant, count):
    # No immured is asked when references are loaded; so it does not matter which one is named.
    module = module_lines(lab.stage, lab.immured(SOFT, 16).socket) if variant == ASYNC else ""
    directory = lab.directory / f"config-test-{VARIANTS.index(variant)}"
    nginx = BenchNginx(lab.stage, directory, lab.authority.plain_conf, module)
    nginx.extra = HASHES
    return nginx.configure(*many_servers(lab, lab.directory / "many", variant, count))


def timed(nginx):
    """(seconds, CPU seconds) of nginx -t."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    nginx.test(timeout=TIMEOUT)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.monotonic() - start, cpu


def ratios(samples, variant):
    """Medians of each round's ratios to key files: seconds, CPU seconds."""
    rounds = zip(samples[variant], samples[FILE])
    return map(median, zip(*((s / fs, c / fc) for (s, c), (fs, fc) in rounds)))


def measure(lab, plan, progress):
    servers = {variant: prepare(lab, variant, plan.references) for variant in VARIANTS}
    samples = {variant: [] for variant in VARIANTS}
    for number in range(plan.reference_rounds):
        for variant in VARIANTS if number % 2 else reversed(VARIANTS):
            samples[variant].append(timed(servers[variant]))
            progress(f"{variant}: {samples[variant][-1][0]:.2f} s")
    names = {FILE: "key files", ASYNC: "references"}
    rows = [
        [names[v], *(median(column) for column in zip(*samples[v])), *ratios(samples, v)]
        for v in VARIANTS
    ]
    return [
        Table(
            "config_test", f"nginx -t with {plan.references:,} servers",
            ["keys", "seconds", "CPU seconds", "ratio", "CPU ratio"], rows,
            ["Each server has a key file or reference and a certificate of its own: copies of one."],
        )
    ]
