"""What came of a soak: a row a fault, what the processes used, and what was not as it should be."""

import json

from .soak import BOUNDS, SESSIONS

COLUMNS = ("fault", "times", "handshakes", "failed", "slowest s", "recovery s")
# A failed handshake tells its client when the deadline has passed, on a busy machine a bit later.
FAILURE_LEEWAY = 1.0


def handshakes_of(soak, event, following):
    """Those that ended after the fault had begun and before the next one did."""
    until = following.begin if following else float("inf")
    return [h for h in soak.load.handshakes if event.begin <= h.start + h.taken < until]


def late_failures(soak, event, handshakes):
    """Failures that there is no excuse for."""
    excused_until = event.end + soak.recovery_max
    return [
        h for h in handshakes
        if h.failure and (event.fault.one_left or h.start > excused_until)
    ]


def judge(soak, event, handshakes):
    """What is wrong with one event, in words."""
    limit = soak.deadline if event.fault.one_left else soak.deadline + FAILURE_LEEWAY
    slowest = max((h.taken for h in handshakes), default=0)
    failed = late_failures(soak, event, handshakes)
    if not handshakes:
        yield "no handshake was made"
    if failed:
        yield f"{len(failed)} handshakes failed, such as {failed[0].failure}"
    if slowest > limit:
        yield f"a handshake took {slowest:.2f} s"
    if event.recovery > soak.recovery_max:
        yield f"recovery took {event.recovery:.2f} s"


def add_event(row, event, handshakes):
    row["times"] += 1
    row["handshakes"] += len(handshakes)
    row["failed"] += sum(1 for h in handshakes if h.failure)
    row["slowest s"] = max([row["slowest s"], *(h.taken for h in handshakes)])
    row["recovery s"] = max(row["recovery s"], event.recovery)


def rows_and_problems(soak):
    rows, problems = {}, []
    for event, following in zip(soak.events, [*soak.events[1:], None]):
        name = event.fault.name
        handshakes = handshakes_of(soak, event, following)
        row = rows.setdefault(name, dict.fromkeys(COLUMNS, 0) | {"fault": name})
        add_event(row, event, handshakes)
        problems += [f"{name}: {problem}" for problem in judge(soak, event, handshakes)]
    return [rows[fault.name] for fault in soak.faults if fault.name in rows], problems


def growth(soak):
    """Of each process that was seen more than once: what it used at first and at last."""
    return [
        {"process": name, "pid": pid}
        | {what: (soak.first_use[name, pid][what], last[what]) for what in BOUNDS}
        for (name, pid), last in soak.last_use.items()
    ]


def growth_problems(processes):
    for process in processes:
        for what, bound in BOUNDS.items():
            first, last = process[what]
            if last - first > bound:
                yield f"{process['process']} {process['pid']}: {what} grew from {first} to {last}"


def session_problems(soak):
    for token in soak.final_status["tokens"]:
        if token["sessions"]["open"] > SESSIONS or token["sessions"]["in_use"] > 0:
            yield f"token {token['name']}: sessions at the end: {token['sessions']}"


def report_of(soak, seed):
    rows, problems = rows_and_problems(soak)
    processes = growth(soak)
    problems += [*growth_problems(processes), *session_problems(soak)]
    ended = sorted(h.taken for h in soak.load.handshakes if not h.failure)
    return {
        "seed": seed,
        "handshakes": len(soak.load.handshakes),
        "median_s": round(ended[len(ended) // 2], 4),
        "faults": rows,
        "processes": processes,
        "sessions": {t["name"]: t["sessions"] for t in soak.final_status["tokens"]},
        "problems": problems,
    }


def as_json(report):
    return json.dumps(report, indent=2)


def as_text(report):
    lines = ["{:<36}{:>6}{:>11}{:>8}{:>11}{:>12}".format(*COLUMNS)]
    for row in report["faults"]:
        lines.append("{:<36}{:>6}{:>11}{:>8}{:>11.2f}{:>12.2f}".format(*row.values()))
    lines.append("")
    for what in BOUNDS:
        worst = max(report["processes"], key=lambda process: process[what][1] - process[what][0])
        first, last = worst[what]
        lines.append(
            f"{what}: most growth of a process: {worst['process']}, from {first} to {last} "
            f"(allowed: {BOUNDS[what]} more)"
        )
    lines.append(f"sessions at the end: {report['sessions']}")
    lines.append(f"{report['handshakes']} handshakes, median {report['median_s'] * 1000:.1f} ms, seed {report['seed']}")
    lines += [f"NOT AS IT SHOULD BE: {problem}" for problem in report["problems"]]
    return "\n".join(lines)
