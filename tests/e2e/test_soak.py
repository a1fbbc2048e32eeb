"""A short soak; `make soak` makes a long one."""

import random

import pytest
from harness.nginx import no_module
from harness.soak import Soak
from harness.soak_report import as_text, report_of

SECONDS = 45
# In which immured starts anew, or a token recovers, while other tests keep the CPUs busy; that two
# seconds are enough on a machine of one's own is for `make soak`.
DEADLINE = 5.0
RECOVERY_LEEWAY = 3.0


@pytest.mark.slow
def test_faults_in_random_order_fail_no_handshake_and_leave_nothing_behind(
    stage, authority, directory
):
    if no_module(stage):
        pytest.skip(no_module(stage))
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    with Soak(
        stage, authority, directory, seed, deadline=DEADLINE, recovery_leeway=RECOVERY_LEEWAY
    ) as soak:
        soak.run(SECONDS)
        report = report_of(soak, seed)
    report["problems"] += soak.audit_problems()
    assert not report["problems"], as_text(report)
