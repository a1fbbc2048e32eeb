"""The audit log holds each use once, whatever dies, and shows when it was changed."""

import json
import os
import re
import shutil
import signal
import time
from datetime import datetime, timezone

import pytest
from harness import audit, robot, wire
from harness.clients import curl, s_client
from harness.faulty import faulty_modules, start_with, tokens
from harness.load import Load
from harness.pki import make_key
from harness.process import run, wait_for_words, wait_until
from harness.token import DAEMON_USER, GRANTS, Immured, as_daemon

TLS13 = b" " * 64 + b"TLS 1.3, server CertificateVerify\0" + bytes(32)

NO_SCHEME = 0x0201  # of SHA-1
SCHEMES = {"p256": 0x0403, "p384": 0x0503, "p521": 0x0603, "rsa2048": 0x0804, "ed25519": 0x0807}


def sign(immured, key_id, times=1, payload=TLS13, scheme=wire.ECDSA_SHA256, operation=wire.SIGN):
    """Has as root, who may sign anything, so many signatures made; the last status."""
    with wire.Connection(immured.socket) as connection:
        for number in range(times):
            datagram = wire.request(
                operation, payload, scheme=scheme, key_id=key_id, request_id=number
            )
            status = connection.call(datagram).status
    return status


def signatures(immured):
    return sum(token["signatures"] for token in immured.status()["tokens"])


def kill_worker(immured):
    """And waits for the one that takes its place."""
    (worker,) = immured.workers()
    os.kill(worker, signal.SIGKILL)
    wait_until(lambda: worker not in immured.workers() and immured.workers(), "another worker")
    wait_until(lambda: immured.token_status()["state"] == "ready", "its token")


def reload_and_wait(immured):
    served = immured.log().count("in place of the one before")
    immured.reload()
    wait_until(lambda: immured.log().count("in place of the one before") > served, "the reload")


# --- What is counted -----------------------------------------------------------------------------


def test_each_handshake_is_counted_once_over_a_crash_a_reload_and_a_restart(own, authority, keys):
    key = keys["p256"]

    def handshakes(number):
        for _ in range(number):
            curl(authority, own.nginx.port, key.host)
        s_client(authority, own.nginx.port, key.host, "-tls1_2")

    def made(then):
        """Each worker counts from 0; nothing else signs here."""
        total = signatures(own.immured)
        then()
        return total

    total = 0
    steps = (
        lambda: kill_worker(own.immured),
        lambda: reload_and_wait(own.immured),
        lambda: (own.immured.stop(), own.immured.start()),
        lambda: (own.immured.kill(), own.immured.start()),
    )
    for number, step in enumerate(steps, 5):
        handshakes(number)
        total += made(step)
    handshakes(3)
    total += made(own.immured.stop)
    expected = {
        (key.id.hex(), key.name, "www-data", "tls13-server", "signed"): 5 + 6 + 7 + 8 + 3,
        (key.id.hex(), key.name, "www-data", "tls12-server", "signed"): 5,
    }
    members = ("key", "name", "user", "use", "outcome")
    assert audit.counts(own.immured.audit, *members) == expected
    assert sum(expected.values()) == total
    assert audit.events(own.immured.audit) == [
        "start", "reload", "stop", "start", "start", "stop",
    ]  # none for the kill


def test_no_signature_that_was_sent_is_missing_when_workers_are_killed_under_load(make_own, authority):
    own = make_own(timeout_ms=10000)
    with Load(authority, own.nginx.port, own.hosts) as load:
        for _ in range(3):
            load.wait_for(30)
            kill_worker(own.immured)
        load.check()
    own.immured.stop()
    counted = audit.counts(own.immured.audit, "outcome")[("signed",)]
    # What was signed and not yet sent was asked for again; each of the 4 clients has one at most.
    assert load.succeeded <= counted <= load.succeeded + 3 * 4 + len(load.failures)


def test_an_overtaken_signature_is_one_use_and_its_second_one_is_counted_apart(
    make_immured, token, stage, directory, keys
):
    modules, key = faulty_modules(stage, directory), keys["p256"]
    immured = start_with(make_immured, token, modules)
    modules[0].set("delay 800")
    uses = 0
    with wire.Connection(immured.socket) as connection:
        while uses < 4 or (immured.status()["overtaken"] < 2 and uses < 40):
            uses += 1
            datagram = wire.request(wire.SIGN, TLS13, scheme=0x0403, key_id=key.id, request_id=uses)
            reply = connection.call(datagram)
            assert (reply.status, reply.request_id) == (wire.OK, uses)
            idle = lambda: all(t["in_flight"] == t["waiting"] == 0 for t in tokens(immured).values())
            wait_until(idle, "the end of the slow call")
        connection.socket.settimeout(0.1)
        with pytest.raises(TimeoutError):  # the answer that lost is not sent
            connection.receive()
    made, overtaken = signatures(immured), immured.status()["overtaken"]
    immured.stop()
    counted = audit.counts(immured.audit, "outcome")
    assert counted[("signed",)] == uses
    assert counted[("signed too late",)] == made - uses == overtaken > 0


def test_refusals_are_counted_with_their_reason_and_unknown_keys_are_all_one(
    make_immured, token, keys
):
    key = keys["p256"]
    grants = GRANTS.replace("user = root", "user = nobody")
    immured = make_immured(token.section() + grants).start()
    for _ in range(2):
        assert sign(immured, key.id) == wire.NOT_GRANTED
    for number in range(300):
        assert sign(immured, os.urandom(32)) == wire.NOT_GRANTED
    immured.status()
    immured.stop()
    assert audit.counts(immured.audit, "key", "uid", "use", "outcome") == {
        (key.id.hex(), 0, "unknown", "refused by grant"): 2,
        ("0" * 64, 0, "unknown", "refused by grant"): 300,
    }


def test_what_is_not_for_tls_is_counted_as_such(make_immured, keys):
    immured, key = make_immured().start(), keys["p256"]
    assert sign(immured, key.id, payload=b"a document") == wire.OK
    assert sign(immured, key.id, 2, payload=bytes(32), operation=wire.SIGN_DIGEST) == wire.OK
    assert sign(immured, key.id, scheme=wire.RSA_PSS_SHA256) == wire.UNSUPPORTED_SCHEME
    # "Unknown key" is how a client learns to look it up: no use.
    assert sign(immured, os.urandom(32)) == wire.UNKNOWN_KEY
    immured.stop()
    assert audit.counts(immured.audit, "name", "use", "outcome") == {
        (key.name, "sign", "signed"): 3,
        (key.name, "unknown", "refused by scheme"): 1,
    }


@pytest.mark.parametrize("user", ["nobody", "www-data"])
def test_what_nothing_has_allowed_when_its_deadline_passes_is_no_use(make_immured, keys, user):
    immured, key = make_immured().start(), keys["p256"]
    assert sign(immured, key.id) == wire.OK  # so that it is known
    late = wire.request(wire.SIGN, TLS13, scheme=wire.ECDSA_SHA256, key_id=key.id, deadline_ms=0)
    with wire.Connection(immured.socket, user) as connection:
        assert connection.call(late).status == wire.DEADLINE_PASSED
    immured.stop()
    assert audit.counts(immured.audit, "user", "outcome") == {("root", "signed"): 1}


def test_what_was_allowed_and_waits_past_its_deadline_is_counted(make_slow, keys):
    immured, key = make_slow(30, "max-sessions = 2"), keys["p256"]
    with wire.Connection(immured.socket) as connection:
        requests = [
            wire.request(wire.SIGN, TLS13, scheme=wire.ECDSA_SHA256, key_id=key.id, request_id=number, deadline_ms=200)
            for number in range(30)
        ]
        for request in requests:
            connection.send(request)
        statuses = [connection.receive().status for _ in requests]
    immured.stop()
    late = statuses.count(wire.DEADLINE_PASSED)
    assert late > 0
    counted = audit.counts(immured.audit, "name", "outcome")
    assert counted[(key.name, "deadline passed")] == late
    assert counted[(key.name, "signed")] == statuses.count(wire.OK) == len(statuses) - late


def test_a_decryption_is_counted_whatever_its_padding_was(make_immured, token, authority, directory):
    grant = "[grant one]\nuser = root\nkeys = *\nuse = decrypt tls12-rsa-decrypt\n"
    immured = make_immured(token.section() + grant)
    key = make_key(immured, authority, directory, "audited", "rsa2048", "--decrypt")
    immured.start()
    public_key = robot.PublicKey(key.public_key)
    for ciphertext in (public_key.padded(bytes(48)), bytes(1) + os.urandom(255)):
        assert sign(immured, key.id, 2, robot.TLS12 + ciphertext, 0, wire.TLS12_RSA_PREMASTER) == wire.OK
        assert sign(immured, key.id, 3, ciphertext, 0, wire.RSA_DECRYPT) == wire.OK
    immured.stop()
    assert audit.counts(immured.audit, "name", "use", "outcome") == {
        ("audited", "tls12-rsa-decrypt", "decrypted"): 4,
        ("audited", "decrypt", "decrypted"): 6,
    }
    assert immured.cli("audit", "show").text.endswith("10 uses: 10 answered, 0 refused, failed or too late\n")


def test_a_first_use_is_in_the_log_soon_and_many_more_are_one_record(make_immured, keys):
    immured, key = make_immured().start(), keys["p256"]
    started = datetime.now(timezone.utc)
    sign(immured, key.id)
    wait_until(lambda: audit.counts(immured.audit, "key"), "the first use", 5)
    sign(immured, key.id, 500)
    immured.stop()
    uses = [record for record in audit.records(immured.audit) if "event" not in record]
    assert sum(record["count"] for record in uses) == 501
    assert uses[0]["count"] == 1 and len(uses) <= 3  # a minute may have ended meanwhile
    for record in uses:
        first, last = (datetime.fromisoformat(record[end].replace("Z", "+00:00")) for end in ("from", "to"))
        assert started.timestamp() - 1 <= first.timestamp() <= last.timestamp()


# --- Where it is written -------------------------------------------------------------------------


def start_in_vain(immured):
    """What it says when it does not start."""
    result = run(*as_daemon(immured.stage.immured, "-c", immured.conf), env=immured.env, status=1)
    assert not immured.socket.exists()
    return result.text


def test_immured_does_not_start_without_its_audit_log_and_says_what_to_do(make_immured):
    immured = make_immured()
    immured.audit.write_text("a file is in the way")
    assert "install -d -m 750" in start_in_vain(immured)
    immured.audit.unlink()
    immured.audit.mkdir(mode=0o755)  # root's
    assert "cannot be used (Permission denied)" in start_in_vain(immured)
    immured.audit.chmod(0o777)
    assert "can be written by others than immured (owner 0, mode 777)" in start_in_vain(immured)


def test_two_immureds_do_not_write_one_audit_log(make_immured):
    first, second = make_immured(), make_immured()
    second.audit = first.audit
    second.configure("")
    first.start()
    assert "another immured writes the audit log" in start_in_vain(second)
    first.kill()
    second.configure(second.stage and "")
    assert first.audit.exists()


def test_the_log_is_for_its_group_to_read_and_off_means_off(make_immured, keys):
    immured = make_immured().start()
    (file,) = immured.audit.glob("*")
    assert (file.stat().st_mode & 0o777, immured.audit.stat().st_mode & 0o777) == (0o640, 0o750)
    text = immured.conf.read_text()
    immured.conf.write_text(text.replace(f"audit = {immured.audit}", "audit = off"))
    reload_and_wait(immured)
    wait_for_words(immured, f"but it is {immured.audit} until immured is restarted")
    immured.stop()
    before = audit.lines(immured.audit)
    immured.start()
    sign(immured, keys["p256"].id)
    immured.stop()
    assert audit.lines(immured.audit) == before


@pytest.fixture
def append_only():
    """Makes files append-only, and lets go of them at the end."""
    changed = []

    def change(*paths):
        if run("chattr", "+a", *paths, status=None).returncode != 0:
            pytest.skip("this file system has no append-only files")
        changed.extend(paths)

    yield change
    if changed:
        run("chattr", "-a", *changed)


def test_files_that_are_append_only_suffice_even_after_a_torn_line(make_immured, keys, append_only):
    immured = make_immured().start()
    immured.kill()
    (file,) = immured.audit.glob("*.log")
    append_only(file, immured.audit)
    with open(file, "ab") as log:
        log.write(b'{"n":')
    immured.start()
    sign(immured, keys["p256"].id)
    immured.stop()
    verified = json.loads(immured.cli("audit", "verify", "--json").stdout)
    assert (verified["good"], verified["torn_writes"]) == (True, 1)
    run(*as_daemon("truncate", "-s", "0", file), status=1)
    run(*as_daemon("rm", file), status=1)
    assert audit.lines(immured.audit)


@pytest.fixture
def small_disk(directory):
    """A file system of 64 KiB for immured's user."""
    path = directory / "small"
    path.mkdir()
    run("mount", "-t", "tmpfs", "-o", "size=64k,mode=755", "tmpfs", path)
    shutil.chown(path, DAEMON_USER)
    yield path
    run("umount", "--lazy", path)


def test_a_full_disk_stops_no_signature_and_loses_no_count(make_immured, small_disk, keys):
    immured = make_immured()
    immured.audit = small_disk / "audit"
    immured.configure(immured.conf.read_text().split("\n\n", 1)[1])
    immured.start()
    sign(immured, keys["p256"].id)
    wait_until(lambda: audit.counts(immured.audit, "key"), "the first use")
    filler = os.open(small_disk / "filler", os.O_WRONLY | os.O_CREAT)
    with pytest.raises(OSError, match="No space left"):
        while True:
            os.write(filler, bytes(4096))
    # The rest of the file's page takes some of these records, and half a one.
    for name, scheme in SCHEMES.items():
        for payload in (TLS13, b"other"):
            assert sign(immured, keys[name].id, 10, payload, scheme) == wire.OK
        sign(immured, keys[name].id, 5, scheme=NO_SCHEME)
    wait_for_words(immured, "cannot be written (No space left", timeout=3)
    assert sign(immured, keys["p256"].id) == wire.OK
    time.sleep(1)  # it is tried again for this one, and not logged again
    assert immured.log().count("cannot be written") == 1
    os.ftruncate(filler, 0)
    os.close(filler)
    immured.stop()
    assert "can be written again" in immured.log()
    verified = json.loads(immured.cli("audit", "verify", "--json").stdout)
    assert verified["good"] and verified["torn_writes"] == 1
    shown = json.loads(immured.cli("audit", "show", "--json").stdout)
    assert shown["total"] == 25 * len(SCHEMES) + 2
    assert sum(use["count"] for use in shown["uses"] if use["outcome"] == "signed") == 102


# --- Looking at it -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def logged(stage, workspace, token, keys):
    """An immured that has stopped, and left some twenty records."""
    directory = workspace / "logged"
    immured = Immured(stage, directory, token.section() + GRANTS, token.env).start()
    for key, scheme in SCHEMES.items():
        sign(immured, keys[key].id, 3, scheme=scheme)
        sign(immured, keys[key].id, 2, payload=b"x", scheme=scheme)
        sign(immured, keys[key].id, 1, scheme=NO_SCHEME)
    immured.stop()
    immured.start()
    sign(immured, keys["p256"].id, 4)
    immured.stop()
    return immured


@pytest.fixture
def copy(logged, directory):
    """A copy of its log, to be changed."""
    path = shutil.copytree(logged.audit, directory / "copy")
    run("chown", "-R", f"{DAEMON_USER}:", path)
    return path


def verify(immured, directory, *options, status=1):
    return immured.cli("audit", "verify", "--directory", directory, *options, status=status).text


def the_file(directory):
    return next(directory.glob("*.log"))


def rewrite(directory, change):
    """`change` gets the lines as a list, and changes it."""
    lines = audit.lines(directory)
    change(lines)
    the_file(directory).write_bytes(b"".join(lines))


def test_an_untouched_log_is_good_and_its_head_is_what_immured_logged(logged, copy):
    said = verify(logged, copy, status=0)
    assert "good: each record follows from the one before" in said
    assert f"Records:            {len(audit.records(copy))}\n" in said
    assert audit.head(copy) in said
    heads = re.findall(r"audit log: head (\S+)", logged.log())
    assert heads[-1] == audit.head(copy) and len(heads) == 4
    for head in heads:
        verify(logged, copy, "--head", head, status=0)


def replaced(number, old, new):
    def change(lines):
        assert old in lines[number]
        lines[number] = lines[number].replace(old, new)

    return change


def swap(lines):
    lines[4], lines[5] = lines[5], lines[4]


def test_renumbered(logged, copy):
    """A record is taken out, and those after it get its number: their hashes tell."""

    def change(lines):
        del lines[3]
        for at in range(3, len(lines)):
            lines[at] = lines[at].replace(b'{"n":%d,' % (at + 2), b'{"n":%d,' % (at + 1))

    rewrite(copy, change)
    assert re.search(r"audit-....-..\.log, line 4: changed: ", verify(logged, copy))


@pytest.mark.parametrize(
    ("change", "line", "fault"),
    [
        (replaced(2, b'"count":', b'"count":1'), 3, "changed"),
        (replaced(0, b"immured 0", b"immured 1"), 1, "changed"),
        (replaced(2, b'"count"', b'"c\nunt"'), 3, "torn"),
        (replaced(2, b'"n":3,', b'"n":x,'), 3, "torn"),
        (lambda lines: lines.pop(3), 4, "removed"),
        (lambda lines: lines.pop(0), None, None),
        (swap, 5, "reordered"),
        (lambda lines: lines.insert(6, lines[5]), 7, "out of sequence"),
        (lambda lines: lines.insert(5, lines[5].replace(b"root", b"rosa")), 6, "inserted"),
        (lambda lines: lines.append(lines.pop()[:-20]), -1, "torn"),
        (lambda lines: lines.append(lines.pop()[:-1]), -1, "torn"),
        (lambda lines: lines.insert(3, b"\n"), 4, "torn"),
        (lambda lines: lines.insert(3, b"x" * 100000 + b"\n"), 4, "torn"),
        (lambda lines: lines.insert(3, b"\0" * 10 + b"\n"), 4, "torn"),
    ],
    ids=[
        "a byte", "a byte of the first", "a line broken in two", "no number", "a line removed",
        "the first removed", "two swapped", "one twice", "one inserted", "the last torn",
        "the last newline removed", "an empty line", "a long line", "zeros",
    ],
)
def test_tampering_is_found_where_it_is(logged, copy, change, line, fault):
    rewrite(copy, change)
    if fault is None:  # nothing can tell it from old files that were put away, but it is told
        said = verify(logged, copy, status=0)
        assert "with record 2: what came before is not here" in said and "good" not in said
        return
    line = len(audit.lines(copy)) if line == -1 else line
    assert re.search(rf"audit-....-..\.log, line {line}: {fault}: ", verify(logged, copy))
    answer = json.loads(
        logged.cli("audit", "verify", "--directory", copy, "--json", status=1).stdout
    )
    assert (answer["good"], answer["fault"], answer["line"]) == (False, fault, line)


def test_an_end_that_is_cut_off_shows_against_a_head_that_was_kept(logged, copy):
    head = audit.head(copy)
    rewrite(copy, lambda lines: lines.pop())
    verify(logged, copy, status=0)
    assert "cut off: the log ends with record" in verify(logged, copy, "--head", head)


def test_a_log_that_was_written_anew_shows_against_a_head_that_was_kept(logged, copy, directory):
    head = audit.head(copy)
    number, digest = head.split(":")
    other = f"{number}:{'0' * 64}"
    assert ": rewritten: record " in verify(logged, copy, "--head", other)
    assert "give N:HASH" in verify(logged, copy, "--head", digest, status=2)


def split(directory, *months):
    """The log in several files."""
    lines, file = audit.lines(directory), the_file(directory)
    file.unlink()
    size = len(lines) // len(months) + 1
    for number, month in enumerate(months):
        part = lines[number * size : (number + 1) * size]
        (directory / f"audit-{month}.log").write_bytes(b"".join(part))


def test_a_file_that_is_missing_shows_unless_it_is_the_oldest(logged, copy):
    split(copy, "2026-01", "2026-02", "2026-03")
    shutil.copy(copy / "audit-2026-01.log", copy / "audit-2026-01.log.1")  # not a part of it
    verify(logged, copy, status=0)
    (copy / "audit-2026-02.log").rename(copy / "away")
    assert re.search(r"audit-2026-03.log, line 1: removed: records \d+ to \d+", verify(logged, copy))
    (copy / "away").rename(copy / "audit-2026-02.log")
    (copy / "audit-2026-01.log").unlink()
    assert "what came before is not here" in verify(logged, copy, status=0)
    assert "is not here" in verify(logged, copy, "--head", f"1:{'0' * 64}")
    (copy / "audit-2026-02.log").rename(copy / "audit-2026-04.log")
    assert "out of sequence" in verify(logged, copy)


def head_of(line):
    record = json.loads(line)
    return f"{record['n']}:{record['hash']}"


def verdict(immured, directory, *options, status=0):
    """What `immure audit verify --json` says of it: whether it is good, and the first record of it."""
    said = immured.cli("audit", "verify", "--directory", directory, "--json", *options, status=status)
    answer = json.loads(said.stdout)
    return answer["good"], answer["first"], answer["first_checked"]


@pytest.fixture
def late(copy):
    """The log without its first two records, and the heads of the two, the third and the last."""
    lines = audit.lines(copy)
    rewrite(copy, lambda lines: lines.__delitem__(slice(2)))
    return copy, [head_of(line) for line in (*lines[:3], lines[-1])]


def change_what_the_first_says(directory):
    """And leave it its hash, so that the next one follows from it."""
    before = audit.lines(directory)[0]
    rewrite(directory, replaced(0, b'"user":"root"', b'"user":"rosa"'))
    rewrite(directory, replaced(0, b'"count":', b'"count":1'))
    assert audit.lines(directory)[0][-66:] == before[-66:]


def test_a_log_whose_oldest_files_were_put_away_is_good_after_the_head_before_it(logged, late):
    directory, (_, second, _, _) = late
    assert "good: each record follows" in verify(logged, directory, "--head", second, status=0)
    assert verdict(logged, directory, "--head", second) == (True, 3, True)


def test_the_first_record_that_was_changed_shows_after_the_head_before_it(logged, late):
    directory, (first, second, third, _) = late
    change_what_the_first_says(directory)
    said = verify(logged, directory, "--head", second)
    assert re.search(r"\.log, line 1: changed: record 3 does not follow from record 2 of --head", said)
    assert verdict(logged, directory, "--head", second, status=1)[0] is False
    # Any other head than the one that is right.
    for other in (f"2:{'0' * 64}", third.replace("3:", "2:", 1)):
        assert "line 1: changed: " in verify(logged, directory, "--head", other)
    assert "removed: " in verify(logged, directory, "--head", first)


@pytest.mark.parametrize("kept", [None, 2, 3], ids=["no head", "its own head", "the last head"])
def test_the_first_record_that_cannot_be_checked_is_not_called_good(logged, late, kept):
    directory, heads = late
    change_what_the_first_says(directory)
    options = ["--head", heads[kept]] if kept else []
    said = verify(logged, directory, *options, status=0)
    assert "good" not in said
    assert "no fault found, but record 3, the first, cannot be checked" in said
    assert re.search(r"^Not checked: +what record 3 says, without --head 2:HASH$", said, re.MULTILINE)
    assert verdict(logged, directory, *options) == (True, 3, False)


def test_immured_goes_on_after_a_torn_line_and_says_so(logged, copy, make_immured):
    rewrite(copy, lambda lines: lines.append(lines.pop()[:-20]))
    immured = make_immured("")
    shutil.copytree(copy, immured.audit)
    run("chown", "-R", f"{DAEMON_USER}:", immured.audit)
    with open(immured.log_file, "ab") as log:
        immured.process = immured.spawn(as_daemon(immured.stage.immured, "-c", immured.conf), log)
    wait_until(immured.is_listening, "immured")
    immured.stop()
    assert "a write was cut short: " in immured.log()
    said = verify(logged, immured.audit, status=0)
    assert "Torn writes:        1, " in said
    rewrite(immured.audit, replaced(-4, b'"n"', b'"more"'))
    assert "torn: " in verify(logged, immured.audit)


def show(immured, *options, status=0):
    return json.loads(immured.cli("audit", "show", "--json", *options, status=status).stdout)


def test_show_sums_up_what_is_asked_for(logged, keys):
    everything = show(logged)
    assert everything["total"] == 5 * (3 + 2 + 1) + 4
    p256 = keys["p256"]
    assert show(logged, "--key", p256.name)["total"] == 3 + 2 + 1 + 4
    assert show(logged, "--key", p256.id.hex())["total"] == 3 + 2 + 1 + 4
    assert show(logged, "--key", p256.id.hex().upper())["total"] == 3 + 2 + 1 + 4
    assert show(logged, "--key", "p25")["total"] == 0
    assert show(logged, "--user", "root")["total"] == show(logged, "--user", "0")["total"] == 34
    assert show(logged, "--user", "www-data")["total"] == 0
    signed = show(logged, "--outcome", "signed", "--key", "p256")["uses"]
    assert {(use["use"], use["count"]) for use in signed} == {("tls13-server", 7), ("sign", 2)}
    (first,) = (use for use in signed if use["use"] == "tls13-server")
    assert first["key"] == p256.id.hex() and first["first"] < first["last"]
    # From the time at which the second immured started.
    start = [r["from"] for r in audit.records(logged.audit) if r.get("event") == "start"][1]
    assert show(logged, "--since", start)["total"] == 4
    assert show(logged, "--until", start)["total"] == 30
    assert show(logged, "--since", "1h")["total"] == 34
    assert show(logged, "--until", "1h")["total"] == show(logged, "--since", "2100-01-01")["total"] == 0
    assert "how long ago" in logged.cli("audit", "show", "--since", "yesterday", status=2).text


def test_show_prints_a_table_and_records(logged):
    table = logged.cli("audit", "show", "--key", "p256").text.splitlines()
    assert table[0].split() == "KEY USER UNIT USE OUTCOME COUNT FIRST LAST".split()
    assert table[-1] == "10 uses: 9 answered, 1 refused, failed or too late"
    lines = logged.cli("audit", "show", "--records").text.splitlines()
    records = audit.records(logged.audit)
    assert len(lines) == len(records) + 2
    assert "start immured " in lines[0] and "signed: p256 by root for tls13-server" in lines[1]
    raw = logged.cli("audit", "show", "--records", "--json").stdout.splitlines()
    assert [json.loads(line) for line in raw] == records


def test_the_log_is_read_without_a_configuration_and_what_is_missing_is_said(logged, directory):
    logged.cli("audit", "show", "-c", "/none", "--directory", logged.audit)
    assert "holds no audit log" in verify(logged, directory)
    assert "No such file" in verify(logged, directory / "none")
    assert "--directory DIR" in logged.cli("audit", "verify", "-c", "/none", status=1).text
