"""Who may use a key, for what and how often: what a grant does not say is refused, by a named rule."""

import json
import os
import re
from contextlib import contextmanager
from pathlib import Path

import pytest
from harness import wire
from harness.clients import curl, s_client
from harness.faulty import faulty_modules
from harness.nginx import certificate_lines
from harness.process import run, wait_for_words

CGROUPS = [Path("/sys/fs/cgroup/unified"), Path("/sys/fs/cgroup")]

GRANT = """
[grant web]
user = www-data
keys = *
"""
OPERATOR = """
[grant operator]
user = root
keys = *
use = {use}
"""


def refusals(immured):
    """immured's counters, without the zeros."""
    counts = json.loads(immured.cli("status", "--json").stdout)["refusals"]
    return {rule: count for rule, count in counts.items() if count}


def serve(nginx, key, lines=""):
    return nginx.configure((key.host, certificate_lines(key) + lines)).start()


def test_who_asks_for_any_key_learns_no_name_of_one_that_is_not_granted(make_immured, token, keys):
    immured = make_immured(token.section() + GRANT.replace("keys = *", "keys = another")).start()
    with wire.Connection(immured.socket, "www-data") as connection:
        reply = connection.call(wire.request(wire.FIND_KEY, b"\2pkcs11:"))
    assert reply.status == wire.NOT_GRANTED and b"may not use key 'pkcs11:'" in reply.payload, reply


# --- Units and control groups --------------------------------------------------------------------


@contextmanager
def unit(name, *pids):
    """The processes are in a control group as systemd would make for this unit."""
    home = next((path for path in CGROUPS if os.access(path / "cgroup.procs", os.W_OK)), None)
    if home is None:
        pytest.skip("no unified control group hierarchy can be written here")
    slice_ = home / "immure-test.slice"
    group = slice_ / name
    group.mkdir(parents=True)
    try:
        for pid in pids:
            (group / "cgroup.procs").write_text(str(pid))
        yield
    finally:
        for pid in (group / "cgroup.procs").read_text().split():
            (home / "cgroup.procs").write_text(pid)
        group.rmdir()
        slice_.rmdir()


@pytest.mark.parametrize("line", ["unit = web-e2e.service", "cgroup = /immure-test.slice"])
def test_only_the_processes_of_a_unit_get_its_grant(line, make_immured, make_nginx, token, keys, authority):
    key = keys["p256"]
    immured = make_immured(token.section() + GRANT.replace("user = www-data", line)).start()
    nginx, other = (serve(make_nginx(immured.socket), key) for _ in range(2))
    with unit("web-e2e.service", nginx.pid(), *nginx.workers()):
        curl(authority, nginx.port, key.host)
        curl(authority, other.port, key.host, status=35)
    assert refusals(immured) == {"grant": 1}
    wait_for_words(other, "rule grant")
    assert "not granted" not in nginx.log()


def test_a_refusal_names_the_unit_that_a_client_is_in(make_immured, make_nginx, token, keys, authority):
    key = keys["p256"]
    immured = make_immured(token.section() + OPERATOR.format(use="tls-server")).start()
    nginx = serve(make_nginx(immured.socket), key)
    with unit("other-e2e.service", nginx.pid(), *nginx.workers()):
        curl(authority, nginx.port, key.host, status=35)
    assert re.search(r"not granted: user www-data \(uid \d+, pid \d+, unit other-e2e.service\)", immured.log())


# --- Rates ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("over_rate", ["alarm", "refuse"])
def test_a_rate_raises_an_alarm_and_by_choice_refuses(
    over_rate, make_immured, make_nginx, token, keys, authority
):
    key, passed = keys["p256"], 0
    grant = GRANT + f"rate = 5/h\nover-rate = {over_rate}\n"
    immured = make_immured(token.section() + grant).start()
    nginx = serve(make_nginx(immured.socket), key)
    for _ in range(8):
        status = None if over_rate == "refuse" else 0
        passed += "served" in curl(authority, nginx.port, key.host, status=status)
    assert passed == (5 if over_rate == "refuse" else 8)
    alarms = [line for line in immured.log().splitlines() if "alarm: [grant web]" in line]
    assert len(alarms) == 1, immured.log()
    assert f"key '{key.name}'" in alarms[0] and "user www-data" in alarms[0]
    status = json.loads(immured.cli("status", "--json").stdout)
    assert status["grants"] == [{"name": "web", "uses": 8, "over_rate": 3}]
    assert "3 of 8 uses of grant web were beyond its rate" in immured.cli("status").text
    if over_rate == "refuse":
        assert refusals(immured) == {"rate": 3}
        wait_for_words(nginx, "over rate: user www-data", "rule rate")


def uses(immured, grant):
    counts = json.loads(immured.cli("status", "--json").stdout)["grants"]
    return next((count["uses"], count["over_rate"]) for count in counts if count["name"] == grant)


def test_what_is_made_again_because_the_device_was_busy_is_one_use(
    make_immured, make_nginx, token, keys, authority, stage, directory
):
    key, module = keys["p256"], faulty_modules(stage, directory)[0]
    grant = GRANT + "rate = 5/h\nover-rate = refuse\n"
    immured = make_immured(token.section(module=module.path) + grant).start()
    nginx = serve(make_nginx(immured.socket), key)
    for _ in range(3):
        module.set("fail 0x06 x8")  # CKR_FUNCTION_FAILED
        curl(authority, nginx.port, key.host)
    assert json.loads(immured.cli("status", "--json").stdout)["tokens"][0]["failures"] == 3 * 8
    assert uses(immured, "web") == (3, 0)
    assert "alarm:" not in immured.log()


# --- Certificate requests ------------------------------------------------------------------------


@pytest.fixture
def requester(make_immured, token, keys, stage, directory):
    """An immured with `csr` granted to root, and openssl that uses it."""
    immured = make_immured(token.section() + OPERATOR.format(use="csr")).start()
    conf = stage.write_openssl_conf(directory / "csr.cnf", immured.socket)

    def call(*arguments, status=0):
        return run("openssl", *arguments, env=stage.host_env(conf), status=status)

    call.immured = immured
    return call


@pytest.mark.parametrize("key_type", ["p256", "rsa2048", "ed25519"])
def test_csr_signs_requests_for_the_key_itself(key_type, requester, keys, directory, authority):
    key, request = keys[key_type], directory / "request.pem"
    requester(
        *("req", "-new", "-key", key.reference, "-subj", f"/CN={key.host}", "-out", request),
        *("-addext", f"subjectAltName=DNS:{key.host}"),
    )
    assert "self-signature verify OK" in authority.openssl("req", "-in", request, "-verify", "-noout").text


def request_info(authority, key_file, directory):
    """The CertificationRequestInfo of a request for the key in this file."""
    path = directory / "other.der"
    authority.openssl("req", "-new", "-key", key_file, "-subj", "/CN=x", "-outform", "DER", "-out", path)
    der = path.read_bytes()
    start = 2 + (der[1] & 0x7F if der[1] & 0x80 else 0)  # behind the header of the whole
    assert der[start] == 0x30 and der[start + 1] < 0x82
    return der[start : start + (der[start + 2] + 3 if der[start + 1] == 0x81 else der[start + 1] + 2)]


@pytest.fixture
def other_key(authority, directory):
    path = directory / "other.key"
    authority.openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", path)
    return path


def test_csr_signs_nothing_but_requests_for_the_key_itself(
    requester, keys, directory, authority, other_key
):
    key, certificate = keys["p256"], directory / "certificate.pem"
    result = requester("req", "-x509", "-key", key.reference, "-subj", "/CN=x", "-out", certificate, status=1)
    assert "rule csr-form" in result.text, result.text
    result = requester("dgst", "-sha256", "-sign", key.reference, "/etc/hostname", status=1)
    assert "rule message" in result.text, result.text
    with wire.Connection(requester.immured.socket) as connection:
        def sign(message):
            return connection.call(
                wire.request(wire.SIGN, message, scheme=wire.ECDSA_SHA256, key_id=key.id)
            )
        reply = sign(request_info(authority, other_key, directory))
        assert reply.status == wire.MESSAGE_REFUSED and b"rule csr-key" in reply.payload
        handshake = b" " * 64 + b"TLS 1.3, server CertificateVerify\0" + bytes(32)
        reply = sign(handshake)
        assert reply.status == wire.MESSAGE_REFUSED and b"rule use" in reply.payload
        assert b"for csr, not for tls13-server" in reply.payload
        digest = wire.request(wire.SIGN_DIGEST, bytes(32), scheme=wire.ECDSA_SHA256, key_id=key.id)
        reply = connection.call(digest)
        assert reply.status == wire.MESSAGE_REFUSED and b"not for sign" in reply.payload
    rules = refusals(requester.immured)
    assert rules == {"csr-form": 1, "csr-key": 1, "message": 1, "use": 2}


def test_tls_server_signs_no_request(make_immured, token, keys, stage, directory):
    immured = make_immured(token.section() + OPERATOR.format(use="tls-server")).start()
    conf = stage.write_openssl_conf(directory / "tls.cnf", immured.socket)
    result = run(
        *("openssl", "req", "-new", "-key", keys["p256"].reference, "-subj", "/CN=x"),
        env=stage.host_env(conf), status=1,
    )
    assert "for tls-server, not for csr" in result.text


# --- DHE -----------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def parameters(authority, workspace):
    """Files for ssl_dhparam: a group of RFC 7919, and one that nobody else has."""
    known, own = workspace / "ffdhe.pem", workspace / "own.pem"
    authority.openssl("genpkey", "-genparam", "-algorithm", "DH", "-pkeyopt", "group:ffdhe2048", "-out", known)
    authority.openssl("dhparam", "-dsaparam", "-out", own, "2048")
    return {"known": known, "own": own}


@pytest.mark.parametrize(
    "use, group, rule",
    [
        ("tls-server, tls12-server-dhe", "known", None),
        ("tls-server", "known", "use"),
        ("tls-server, tls12-server-dhe", "own", "tls12-group"),
    ],
)
def test_dhe_is_signed_if_granted_and_in_a_well_known_group(
    use, group, rule, make_immured, make_nginx, token, keys, authority, parameters
):
    key = keys["rsa2048"]
    immured = make_immured(token.section() + GRANT + f"use = {use}\n").start()
    nginx = serve(
        make_nginx(immured.socket), key,
        f"ssl_dhparam {parameters[group]}; ssl_ciphers DHE-RSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256;",
    )
    suite = ("-tls1_2", "-cipher", "DHE-RSA-AES128-GCM-SHA256")
    if rule is None:
        handshake = s_client(authority, nginx.port, key.host, *suite)
        assert handshake.cipher == "DHE-RSA-AES128-GCM-SHA256"
    else:
        s_client(authority, nginx.port, key.host, *suite, status=1)
        assert refusals(immured) == {rule: 1}
        wait_for_words(nginx, f"rule {rule}")
    curl(authority, nginx.port, key.host, "--tls-max", "1.2")  # by ECDHE, as ever


# --- Documents -----------------------------------------------------------------------------------


def test_the_manual_lists_every_rule(immured):
    page = (Path(__file__).parents[2] / "man/immured.8").read_text()
    rules = json.loads(immured.cli("status", "--json").stdout)["refusals"]
    listed = page[page.index(".Ss Requests") : page.index(".Sh SIGNALS")]
    assert list(rules) == re.findall(r"^\.It (\S+)$", listed, re.MULTILINE)
