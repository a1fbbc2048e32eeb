"""The documents: their commands are run, or say why not; their links and tests are there."""

import json
import re
import shutil

import pytest
from harness.document import PROJECT, anchors, blocks, documents, links
from harness.process import wait_until
from harness.throwaway import Throwaway

README, GUIDES = PROJECT / "README.md", PROJECT / "doc/guides"
STEPS = "Your own token, step by step"
TEST = re.compile(r"(tests/[\w/]+\.py)(?:::(\w+))?")
ACME_CLIENTS = ("certbot", "lego", "dehydrated", "pebble")
ACME = "https://localhost:14000/dir"
CA = "/usr/local/share/ca-certificates/e2e.crt"
SERIAL_2027 = "openssl x509 -in /etc/ssl/www-2027.crt -noout -serial"
SERIAL = """openssl s_client -connect www.example.com:443 </dev/null 2>/dev/null |
    openssl x509 -noout -serial"""
GET = "curl -sS -o /dev/null -w '%{ssl_verify_result}' https://www.example.com/"


def name(path):
    return str(path.relative_to(PROJECT))


def missing_tests(text):
    """Of the tests that it names, those that are not there."""
    missing = []
    for file, function in TEST.findall(text):
        path = PROJECT / file
        if not path.exists() or (function and f"def {function}(" not in path.read_text()):
            missing.append(f"{file}::{function}")
    return missing


@pytest.mark.parametrize("document", documents(), ids=name)
def test_each_command_is_run_by_ci_or_says_why_not(document):
    for block in filter(lambda block: block.is_commands, blocks(document)):
        assert block.note is not None, f"{block.where}: who runs this?\n{block.text}"
        kind, text = block.note
        if kind == "run by CI":
            assert TEST.search(text), f"{block.where}: {text} names no test"


@pytest.mark.parametrize("document", documents(), ids=name)
def test_each_test_that_a_document_names_is_there(document):
    assert missing_tests(document.read_text()) == []


@pytest.mark.parametrize("document", documents(), ids=name)
def test_each_link_leads_somewhere(document):
    for link in links(document):
        path, _, fragment = link.partition("#")
        target = (document.parent / path).resolve() if path else document
        assert target.exists(), f"{link} leads to no file"
        if fragment and target.suffix == ".md":
            assert fragment in anchors(target), f"{link} leads to no heading"


def members(value, name=""):
    """Of a JSON value, as `tokens[].sessions.open`; what counts by names of its own is one."""
    if isinstance(value, list):
        return members(value[0], f"{name}[]")
    if not isinstance(value, dict) or name in ("requests", "refusals"):
        return [name]
    return [path for key in value for path in members(value[key], f"{name}.{key}".lstrip("."))]


def test_the_protocol_lists_the_members_of_the_status(immured):
    text = (PROJECT / "doc/protocol.md").read_text().split("## Status\n")[1].split("\n## ")[0]
    listed = re.findall(r"`([^`]+)`", "".join(re.findall(r"^\| (`.+?) \|", text, re.MULTILINE)))
    assert sorted(listed) == sorted(members(immured.status()))


def follow(system, document, section=None):
    """Does what the document says, with what it says is run by this file."""
    for block in blocks(document):
        if section in (None, block.section) and block.note[0] == "run by CI":
            if block.file:
                append = "end of" in block.before or "haproxy.cfg" in block.before
                mode = 0o755 if block.text.startswith("#!") else 0o644
                system.write(block.file, block.text, mode, append)
            elif block.is_commands:
                cwd = PROJECT if "make install" in block.text else "/root"
                system.run(block.text, cwd=cwd, timeout=300)


def make_authority(system):
    """The user's, which this host trusts."""
    system.run(
        f"""openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 \\
            -subj /CN=e2e -addext keyUsage=critical,keyCertSign -keyout ca.key -out {CA} 2>/dev/null
        update-ca-certificates >/dev/null 2>&1
        echo 127.0.0.1 www.example.com >>/etc/hosts"""
    )


def certify(system, key):
    system.run(
        f"""openssl x509 -req -in {key}.csr -CA {CA} -CAkey ca.key -copy_extensions copy -days 2 \\
            -out /etc/ssl/{key}.crt 2>/dev/null"""
    )


def grant(system, text):
    system.write("/etc/immure/immure.conf", f"\n{text}\n", append=True)
    system.run(
        """worker=$(pgrep --newest --exact immured)
        kill -HUP $(pgrep --oldest --exact immured)
        for _ in $(seq 100); do kill -0 $worker 2>/dev/null || break; sleep 0.1; done"""
    )


@pytest.fixture(scope="module")
def system(workspace):
    """This system with Immure as README.md's steps 1 to 4 leave it."""
    directory = workspace / "throwaway"
    directory.mkdir()
    system = Throwaway(directory)
    if not system.start():
        pytest.skip(f"no throw-away system: {directory.with_suffix('.log').read_text()}")
    try:
        follow(system, README, STEPS)
        make_authority(system)
        certify(system, "www")
        yield system
    finally:
        system.stop()


def is_served(system):
    return system.run(GET).text == "0"


def stop(system, command):
    """Returns when the next server can have the port."""
    system.run(command)
    wait_until(lambda: ":443 " not in system.run("ss -ltn").text, "port 443 to be free")


@pytest.mark.slow
def test_readme_steps(system):
    """Its lines for nginx are those of the guide, which is followed below."""
    assert "prod   ready" in system.run("immure status").text


@pytest.mark.slow
def test_nginx_guide(system):
    follow(system, GUIDES / "nginx.md")
    assert is_served(system)
    system.run("nginx -s reload; sleep 1")
    assert is_served(system)
    stop(system, "nginx -s stop")


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("apache2"), reason="apache2 is not here")
def test_apache_guide(system):
    system.run("sed -i 's/^Listen 80$//' /etc/apache2/ports.conf")
    follow(system, GUIDES / "apache.md")
    assert is_served(system)
    stop(system, "apachectl stop")


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("haproxy"), reason="haproxy is not here")
def test_haproxy_guide(system):
    grant(system, "[grant haproxy]\ngroup = haproxy\nkeys = *")
    system.run("""mkdir -p /run/haproxy /var/lib/haproxy/run/immure
        mount --bind /run/immure /var/lib/haproxy/run/immure""")  # BindPaths= of the guide
    system.run("""runuser -u immure -- immure key generate www-2027 --type p256
        immure csr www-2027 --san www.example.com -o www-2027.csr
        immure key reference www-2027 -o /etc/immure/keys/www-2027.pem""")
    certify(system, "www-2027")
    follow(system, GUIDES / "haproxy.md")
    assert is_served(system)
    assert system.run(SERIAL).text == system.run(SERIAL_2027).text, "the new key is not in use"
    stop(system, "kill $(cat /run/haproxy.pid)")


def start_acme_server(system):
    """pebble, which this host trusts and which its clients ask; not slow and odd on purpose."""
    system.run(
        """openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=localhost \\
            -addext subjectAltName=DNS:localhost -keyout acme.key -out acme.csr 2>/dev/null"""
    )
    certify(system, "acme")
    settings = {
        "listenAddress": "127.0.0.1:14000", "managementListenAddress": "127.0.0.1:15000",
        "certificate": "/etc/ssl/acme.crt", "privateKey": "/root/acme.key", "httpPort": 80,
    }
    system.write("/root/pebble.json", json.dumps({"pebble": settings}))
    system.run(
        f"""export PEBBLE_VA_NOSLEEP=1 PEBBLE_WFE_NONCEREJECT=0
        setsid pebble -config pebble.json >pebble.log 2>&1 </dev/null &
        for _ in $(seq 100); do curl -sf -o /dev/null {ACME} && break; sleep 0.1; done
        curl -sS https://localhost:15000/roots/0 >/usr/local/share/ca-certificates/pebble.crt
        update-ca-certificates >/dev/null 2>&1"""
    )
    client = f"server = {ACME}\nagree-tos = true\nemail = e@e2e.test\n"
    system.write("/etc/letsencrypt/cli.ini", client)
    system.write("/etc/dehydrated/conf.d/server.sh", f"CA={ACME}\n")
    lego = f'#!/bin/sh\nexec /usr/bin/lego --server {ACME} "$@"\n'
    system.write("/usr/local/bin/lego", lego, 0o755)


@pytest.mark.slow
@pytest.mark.skipif(
    not all(map(shutil.which, ACME_CLIENTS)), reason=f"not all are here of {', '.join(ACME_CLIENTS)}"
)
def test_certificates_guide(system):
    follow(system, GUIDES / "nginx.md")
    grant(system, "[grant requests]\nuser = root\nkeys = www\nuse = csr")
    start_acme_server(system)
    follow(system, GUIDES / "certificates.md")
    for _ in range(2):
        system.run("renew-www")
    assert "Pebble" in system.run("openssl x509 -in /etc/ssl/www.crt -noout -issuer").text
    assert is_served(system)
    key = system.run("openssl x509 -in /etc/ssl/www.crt -noout -pubkey").text
    name = "www.example.com"
    for path in (f"lego/certificates/{name}.crt", f"dehydrated/certs/{name}/cert.pem"):
        assert system.run(f"openssl x509 -in /var/lib/{path} -noout -pubkey").text == key
    certify(system, "www")
    stop(system, "nginx -s stop")
