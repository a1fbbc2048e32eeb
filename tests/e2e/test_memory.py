"""There is nothing to steal: whole memory images have neither a private key nor the PIN in them.

Anything of 16 bytes in a row of a private number is found, in either byte order and in base64; the
same search is shown to find them where they are.
"""

import os
import pty
import secrets as random
import shutil
import signal
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from harness.clients import handshake
from harness.faulty import faulty_modules
from harness.haproxy import HAPROXY, Haproxy
from harness.load import handshakes
from harness.memory import UNREADABLE, search
from harness.nginx import certificate_lines
from harness.pki import ALGORITHMS, import_key
from harness.private_numbers import forms_of_key, forms_of_pin
from harness.process import children, read_until, wait_for_end
from harness.server import sites
from harness.stage import DAEMON_USER
from harness.token import GRANTS, SOFTHSM, Immured, SoftToken, as_daemon

HANDSHAKES = 1000
MANY = HANDSHAKES * len(ALGORITHMS)

# The size of the largest vector register (AVX-512).
REGISTER = 64
# stop_at_exit's exit status for a command that a signal has ended.
DIED = 125

# What reads another process's memory as a whole also reads the gigabytes that sanitizers reserve.
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def place(workspace):
    directory = Path(tempfile.mkdtemp(dir=workspace, prefix="memory-"))
    directory.chmod(0o755)
    return directory


@pytest.fixture(scope="module")
def vault(stage, place, authority):
    """An immured, and keys of each type in its token that came from files; what is secret of them."""
    pin = random.token_urlsafe(48)
    token = SoftToken(place, "vault", pin=pin)
    immured = Immured(stage, place / "immured", token.section() + GRANTS, token.env).start()
    files, keys, forms = {}, {}, {}
    for name, algorithm in ALGORITHMS.items():
        files[name] = authority.file_key(f"memory-{name}", f"{name}.immure.test", algorithm)
        keys[name] = import_key(immured, authority, place, name, files[name])
        of_key = forms_of_key(authority, files[name][0])
        forms |= {(name, *form): secret for form, secret in of_key.items()}
    yield SimpleNamespace(
        immured=immured, token=token, files=files, keys=keys, key_forms=forms,
        pin_forms=forms_of_pin(pin), log=immured.log,
    )
    immured.stop()


@pytest.fixture
def search_all(host_program, vault):
    """Searches each process for every secret; the findings of all."""

    def search_one(pid, forms):
        """Once more when something could not be read: memory may be given back meanwhile."""
        program = host_program("find_secrets")
        image = search(program, pid, forms)
        return image if image.skipped <= UNREADABLE else search(program, pid, forms)

    def search_all(pids, forms=None):
        findings = []
        for pid in pids:
            image = search_one(pid, forms or vault.key_forms | vault.pin_forms)
            print(f"pid {pid}: {image.bytes / 2**20:.1f} MiB searched, but {sorted(image.skipped)}")
            assert image.skipped <= UNREADABLE
            findings += image.findings
        return findings

    return search_all


def shake_hands(authority, port, keys, count):
    """So many handshakes with each key, of which the last is verified."""
    for key in keys.values():
        result = handshakes(port, key.host, count=count)
        assert (result["handshakes"], result["failed"]) == (count, 0), str(result)
        handshake(authority, port, key.host)


@contextmanager
def signed_by(immured, count):
    """At least so many signatures are made by immured meanwhile."""
    before = immured.token_status()["signatures"]
    yield
    assert immured.token_status()["signatures"] - before >= count


def test_nginx_has_no_private_key_and_no_pin_in_its_memory(vault, make_nginx, authority, search_all):
    nginx = make_nginx(vault.immured.socket)
    nginx.configure(*((key.host, certificate_lines(key)) for key in vault.keys.values())).start()
    with signed_by(vault.immured, MANY):
        shake_hands(authority, nginx.port, vault.keys, HANDSHAKES)
    assert search_all([nginx.pid(), *nginx.workers()]) == []


@pytest.mark.skipif(shutil.which(HAPROXY) is None, reason="haproxy is not here")
def test_haproxy_has_no_private_key_and_no_pin_in_its_memory(
    vault, stage, directory, authority, search_all
):
    conf = stage.write_openssl_conf(directory / "openssl.cnf", vault.immured.socket)
    served = sites(*vault.keys.values())
    haproxy = Haproxy(directory / "haproxy", stage.host_env(conf), served, ["ssl-mode-async"]).start()
    try:
        with signed_by(vault.immured, MANY):
            shake_hands(authority, haproxy.port, vault.keys, HANDSHAKES)
        assert search_all(haproxy.pids()) == []
    finally:
        haproxy.stop()


@pytest.mark.parametrize("hosting", ["by OPENSSL_CONF"], indirect=True)
def test_the_search_finds_each_key_in_an_nginx_that_has_it_in_a_file(
    vault, make_nginx, authority, search_all
):
    pairs = {
        vault.keys[name].host: f"ssl_certificate {certificate}; ssl_certificate_key {key};"
        for name, (key, certificate) in vault.files.items()
    }
    nginx = make_nginx(vault.immured.socket).configure(*pairs.items()).start()
    shake_hands(authority, nginx.port, vault.keys, 10)
    for pid in (nginx.pid(), *nginx.workers()):
        found = search_all([pid])
        report(found)
        assert {finding.secret[:2] for finding in found} >= numbers_in_use(vault)


def numbers_in_use(vault):
    """All but what an Ed25519 key's seed is expanded to while it signs."""
    return {form[:2] for form in vault.key_forms if form[1] != "expanded seed"}


def report(findings):
    for secret in sorted({finding.secret for finding in findings}):
        sizes = {f.size for f in findings if f.secret == secret}
        print(f"    found: {' '.join(secret)}, {sorted(sizes)} bytes")


# --- immured: with SoftHSM the keys are in its worker by nature ----------------------------------


def outside_locked_pages(findings):
    return [finding for finding in findings if not finding.mapping.locked]


def test_immured_has_the_pin_in_no_page_that_is_not_locked(vault, search_all):
    pids = [vault.immured.process.pid, *vault.immured.workers()]
    assert outside_locked_pages(search_all(pids, vault.pin_forms)) == []


def test_an_operators_pin_is_in_locked_pages_and_found_there(vault, make_immured, search_all):
    """This also shows that the search finds a PIN."""
    section = vault.token.section().replace(f"pin-file = {vault.token.pin_file}\n", "")
    immured = make_immured(section + GRANTS, vault.token.env)
    pid, terminal = pty.fork()
    if pid == 0:
        command = as_daemon(immured.stage.immured, "-c", immured.conf, "--ask-pin")
        os.execvpe(command[0], [str(word) for word in command], immured.env)
    try:
        read_until(terminal, b"PIN for token soft: ")
        os.write(terminal, vault.pin_forms["PIN", "utf-8"] + b"\n")
        read_until(terminal, b" keys found ")
        found = search_all([pid, *children(pid)], vault.pin_forms)
        assert {finding.secret for finding in found} == {("PIN", "utf-8")}
        assert outside_locked_pages(found) == []
    finally:
        os.kill(pid, signal.SIGTERM)
        wait_for_end(pid, terminal)


# --- The command line ----------------------------------------------------------------------------


class AtExit:
    """`with` gives the pid of a command that has done all that it does, and is not gone yet."""

    def __init__(self, program, command, env, status):
        self.status = status
        self.process = subprocess.Popen(
            [program, *map(str, command)], env=env, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        self.said = []

    def __enter__(self):
        for line in self.process.stderr:
            self.said.append(line)
            if line.strip().isdigit():
                return int(line)
        raise AssertionError(f"it did not come to its end: {self.said}")

    def __exit__(self, *_):
        self.process.communicate("\n", timeout=10)
        assert self.process.returncode == self.status, self.said


@pytest.fixture
def at_exit(vault, host_program):
    def at_exit(*words, status=0):
        command = as_daemon(vault.immured.stage.immure, *words)
        return AtExit(host_program("stop_at_exit"), command, vault.immured.env, status)

    return at_exit


@pytest.mark.parametrize(
    "words",
    (
        "token list", "key list", "key show p384", "key reference rsa2048", "status",
        "csr p256 --san a.test", "csr ed25519 --san a.test", "csr rsa4096 --san a.test",
    ),
)
def test_the_command_line_leaves_no_private_key_and_no_pin_behind(at_exit, search_all, words):
    with at_exit(*words.split()) as pid:
        assert search_all([pid]) == []


@pytest.mark.parametrize("name", ALGORITHMS)
def test_import_leaves_no_private_key_behind(vault, at_exit, search_all, directory, name):
    """But for what was copied last: it is in a vector register, which the dynamic linker saves on
    the stack."""
    if other := vault.immured.stage.other_libcrypto(SOFTHSM):  # it wipes what Immure's frees
        pytest.skip(other)
    vault.immured.cli("key", "destroy", name, "--yes")
    file = shutil.copy(vault.files[name][0], directory / "key.pem")
    shutil.chown(file, DAEMON_USER)
    with at_exit("key", "import", name, file, "--keep") as pid:
        found = search_all([pid])
    left = [finding for finding in found if finding.mapping.name != "[stack]" or finding.size > REGISTER]
    assert left == []


def test_the_command_line_has_the_pin_no_more_when_it_has_logged_in(
    vault, stage, directory, make_immured, at_exit, search_all
):
    """It dies in its search for keys."""
    (module,) = faulty_modules(stage, directory, ["hsm"])
    module.set("crash C_FindObjectsInit")
    conf = make_immured(vault.token.section(module.path)).conf
    with at_exit("key", "list", "--config", conf, status=DIED) as pid:
        found = search_all([pid], vault.pin_forms)
    assert found == []
