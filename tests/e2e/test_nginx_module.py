"""Which handshakes nginx's module drives, and what it does when something runs out."""

import imaplib
import os
import re
import smtplib
import socket
import ssl
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from harness.clients import curl, s_client
from harness.nginx import MAIL, certificate_lines, wait_for_shutdown
from harness.process import free_port, is_running, run, wait_until
from harness.token import GRANTS
from test_async_features import verify_lines
from test_asynchronous import SLOW_MS, STREAM, handshake, many_handshakes, most_in_flight

# What the debug log says when the module drives a handshake.
DRIVEN = "immure: handshake start"

pytestmark = pytest.mark.parametrize("hosting", ["by module"], indirect=True)


@pytest.fixture
def make_slow(make_immured, token, stage):
    """Makes an immured whose token takes so long for each signature."""

    def make(milliseconds=SLOW_MS):
        section = token.section(module=stage.hsm)
        return make_immured(section + GRANTS, env={"IMMURE_HSM_DELAY_MS": str(milliseconds)}).start()

    return make


@pytest.fixture
def one_worker(monkeypatch):
    monkeypatch.setattr("harness.nginx.WORKERS", 1)


@pytest.fixture
def file_key(authority):
    """The name and the lines of a server whose key is in a file."""
    host = "file.immure.test"
    key, certificate = authority.file_key("file", host)
    return host, f"ssl_certificate {certificate}; ssl_certificate_key {key};\n"


@pytest.fixture(scope="session")
def preload(workspace):
    """Makes an nginx of which OpenSSL is as hosts/preload.c says; to be called before configure()."""
    library = workspace / "preload.so"
    source = Path(__file__).parent / "hosts/preload.c"
    run(*"gcc -std=gnu11 -Wall -Wextra -Werror -shared -fPIC -o".split(), library, source)

    def make(nginx, what=""):
        sanitizers = nginx.env.get("LD_PRELOAD", "")  # these come first
        nginx.extra_env = {"PRELOAD": what}
        nginx.env |= nginx.extra_env | {"LD_PRELOAD": f"{sanitizers}:{library}".lstrip(":")}
        return nginx

    return make


def edit(nginx, *pairs):
    text = nginx.conf.read_text()
    for old, new in pairs:
        assert old in text
        text = text.replace(old, new)
    nginx.conf.write_text(text)
    return nginx


def debug(nginx):
    return edit(nginx, ("error.log info", "error.log debug"))


def add_block(nginx, module, block):
    """Adds a block after http's, and loads the module that knows it."""
    edit(nginx, ("user www-data", f"load_module {module};\nuser www-data"))
    nginx.conf.write_text(nginx.conf.read_text() + block)
    return nginx


def use(nginx, method):
    """Has it wait for events in this way, if it can."""
    edit(nginx, ("events {", f"events {{ use {method};"))
    if "invalid event type" in nginx.command("-t", status=None).text:
        pytest.skip(f"nginx is built without {method}")
    return nginx


def hang_up(nginx):
    """A reload by the signal; nginx -s reload would read the configuration, too, and log it."""
    before = set(nginx.workers())
    nginx.signal("SIGHUP")
    wait_until(lambda: nginx.workers() and not before & set(nginx.workers()), "new workers alone")


def driven(nginx):
    return nginx.log().count(DRIVEN)


def client_hello(host):
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = ssl.create_default_context().wrap_bio(incoming, outgoing, server_hostname=host)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


def cpu_seconds(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


# --- Which handshakes -----------------------------------------------------------------------------


def test_an_address_without_a_key_of_immures_is_left_alone(
    immured, make_nginx, authority, keys, file_key
):
    key, (host, lines), other = keys["p256"], file_key, free_port()
    nginx = make_nginx(immured.socket).configure((key.host, certificate_lines(key)))
    servers = "".join(
        f"server {{ listen 127.0.0.1:{other} ssl; server_name {name}; {text} return 200; }}\n"
        for name, text in (("reject.test", "ssl_reject_handshake on;"), (host, lines))
    )
    debug(edit(nginx, ("http {", "http {" + servers))).start()

    curl(authority, other, host)
    assert driven(nginx) == 0
    curl(authority, nginx.port, key.host)
    assert driven(nginx) == 1


def test_a_server_that_rejects_handshakes_may_be_the_first_of_an_address(
    make_slow, make_nginx, authority, keys
):
    slow, key = make_slow(), keys["p256"]
    nginx = make_nginx(slow.socket)
    nginx.configure(
        ("reject.test", "ssl_reject_handshake on;"), (key.host, certificate_lines(key))
    ).start()
    assert most_in_flight(slow, lambda: many_handshakes(authority, nginx.port, key.host)) > 2
    with pytest.raises(ssl.SSLError):
        handshake(authority, nginx.port, "reject.test")


@pytest.mark.parametrize("first", ("on", "off"))
def test_immure_async_of_the_server_that_the_client_names_counts(
    make_slow, make_nginx, authority, keys, one_worker, first
):
    slow, asynchronous, blocking = make_slow(), keys["p256"], keys["p384"]
    servers = [
        (asynchronous.host, certificate_lines(asynchronous)),
        (blocking.host, "immure_async off;" + certificate_lines(blocking)),
    ]
    nginx = make_nginx(slow.socket)
    nginx.configure(*servers[:: 1 if first == "on" else -1]).start()

    def most(key):
        return most_in_flight(slow, lambda: many_handshakes(authority, nginx.port, key.host, 4))

    assert most(asynchronous) > 2
    assert most(blocking) == 1


@pytest.mark.skipif(not os.path.exists(STREAM), reason="libnginx-mod-stream is not here")
def test_stream_addresses_without_a_key_of_immures_are_left_alone(
    immured, make_nginx, authority, keys, file_key
):
    key, (host, lines) = keys["p256"], file_key
    ports = [free_port(), free_port()]
    nginx = make_nginx(immured.socket).configure((key.host, certificate_lines(key)))
    servers = "".join(
        f"server {{ listen 127.0.0.1:{port} ssl; {text} return streamed; }}\n"
        for port, text in zip(ports, (lines, certificate_lines(key)))
    )
    debug(add_block(nginx, STREAM, f"stream {{ {servers} }}")).start()
    handshake(authority, ports[0], host)
    assert driven(nginx) == 0
    handshake(authority, ports[1], key.host)
    assert driven(nginx) == 1


@pytest.mark.skipif(not os.path.exists(STREAM), reason="libnginx-mod-stream is not here")
def test_stream_servers_of_an_address_have_keys_of_either_kind(
    make_slow, make_nginx, authority, keys, file_key
):
    slow, key, (host, lines), port = make_slow(), keys["p256"], file_key, free_port()
    nginx = make_nginx(slow.socket).configure((key.host, certificate_lines(key)))
    servers = "".join(
        f"server {{ listen 127.0.0.1:{port} ssl; server_name {name}; {text} return streamed; }}\n"
        for name, text in ((host, lines), (key.host, certificate_lines(key)))
    )
    add_block(nginx, STREAM, f"stream {{ {servers} }}")
    if '"server_name" directive is not allowed here' in nginx.command("-t", status=None).text:
        pytest.skip("this nginx's stream has no server_name")
    nginx.start()
    assert handshake(authority, port, host)
    assert most_in_flight(slow, lambda: many_handshakes(authority, port, key.host)) > 2


@pytest.mark.skipif(not os.path.exists(STREAM), reason="libnginx-mod-stream is not here")
def test_a_stream_server_with_variables_serves_and_the_log_says_that_it_blocks(
    immured, make_nginx, authority, keys
):
    key, port = keys["p256"], free_port()
    nginx = make_nginx(immured.socket).configure((key.host, certificate_lines(key)))
    by_name = f"map $ssl_server_name $reference {{ {key.host} {key.reference}; }}"
    server = (
        f"server {{ listen 127.0.0.1:{port} ssl; ssl_certificate {key.certificate};"
        " ssl_certificate_key $reference; return streamed; }"
    )
    debug(add_block(nginx, STREAM, f"stream {{ {by_name} {server} }}")).start()
    handshake(authority, port, key.host)
    assert driven(nginx) == 0
    assert 'of stream servers with variables in "ssl_certificate" are not' in nginx.log()


def test_early_data_keeps_handshakes_blocking_and_the_log_says_so_once(
    immured, make_nginx, authority, keys
):
    key = keys["p256"]
    nginx = make_nginx(immured.socket)
    nginx.configure((key.host, "ssl_early_data on;" + certificate_lines(key)))
    debug(nginx).start()
    curl(authority, nginx.port, key.host)
    hang_up(nginx)
    curl(authority, nginx.port, key.host)
    said = 'handshakes of servers with "ssl_early_data" are not asynchronous'
    assert nginx.log().count(said) == 1
    assert driven(nginx) == 0


def test_an_openssl_without_jobs_keeps_handshakes_blocking_and_the_log_says_so_once(
    immured, make_nginx, authority, keys, preload
):
    key, other = keys["p256"], keys["p384"]
    nginx = preload(make_nginx(immured.socket), "not capable")
    debug(nginx.configure(*((k.host, certificate_lines(k)) for k in (key, other)))).start()
    curl(authority, nginx.port, key.host)
    said = "handshakes with an OpenSSL that has no ASYNC jobs are not asynchronous"
    assert nginx.log().count(said) == 1
    assert driven(nginx) == 0


@pytest.mark.skipif("http_v3" not in run("nginx", "-V").text, reason="nginx is built without QUIC")
def test_quic_keeps_handshakes_blocking_and_the_log_says_so_once(
    immured, make_nginx, authority, keys, one_worker
):
    key = keys["p256"]
    nginx = make_nginx(immured.socket)
    nginx.configure((key.host, f"listen 127.0.0.1:{free_port()} quic;" + certificate_lines(key)))
    port = re.search(r":(\d+) quic", nginx.conf.read_text())[1]
    debug(nginx).start()
    hang_up(nginx)
    assert nginx.log().count("handshakes over QUIC are not asynchronous") == 1
    if "HTTP3" in run("curl", "--version").text:
        said = curl(authority, port, key.host, "--http3-only", "-w", "%{http_version}")
        assert said.endswith("3")
    assert driven(nginx) == 0
    curl(authority, nginx.port, key.host)
    assert driven(nginx) == 1


@pytest.mark.parametrize("group", ("X25519", "secp521r1"))
def test_what_finds_the_server_name_has_all_the_stack_that_it_wants(
    make_slow, make_nginx, authority, keys, group
):
    """PCRE's JIT takes 32k of stack, as much as an ASYNC job has.

    The client's first key share is not for secp521r1: it is asked for another, in a second hello.
    """
    slow, key = make_slow(100), keys["p256"]
    lines = f"ssl_ecdh_curve {group};" + certificate_lines(key)
    nginx = make_nginx(slow.socket)
    nginx.configure(("other.test", lines), (r"~^(p256)\.(\w+)\.test$", lines))
    edit(nginx, ("user www-data", "pcre_jit on; user www-data")).start()
    workers = nginx.workers()

    def handshakes():
        for _ in range(5):
            many_handshakes(authority, nginx.port, key.host)

    assert most_in_flight(slow, handshakes) > 2
    assert nginx.workers() == workers, nginx.log()


def jobs_of_a_visit(nginx, authority, host, version, *options):
    """How many jobs began for a handshake with a client certificate, which nginx verifies."""
    nginx.edit("ssl_protocols", f"{verify_lines(authority)} ssl_protocols").start()
    key, certificate = authority.file_key("visitor", "visitor")
    s_client(
        *(authority, nginx.port, host, f"-tls{version.replace('.', '_')}", *options),
        *("-key", key, "-cert", certificate), request="GET / HTTP/1.0\n\n",
    )
    assert driven(nginx) == 1
    return nginx.log().count("a job begins")


@pytest.mark.parametrize("version", ("1.2", "1.3"))
def test_a_key_in_a_file_that_is_named_by_a_variable_needs_no_job(
    immured, make_nginx, authority, preload, version
):
    host = "file.immure.test"
    key, certificate = authority.file_key("file", host)
    key.chmod(0o644)  # a worker reads it
    lines = f"ssl_certificate {certificate}; ssl_certificate_key {key.parent}/$by_name;"
    nginx = preload(make_nginx(immured.socket))
    nginx.extra = f"map $ssl_server_name $by_name {{ {host} {key.name}; }}"
    debug(nginx.configure((host, lines)))
    assert jobs_of_a_visit(nginx, authority, host, version) == 0


@pytest.mark.parametrize("version", ("1.2", "1.3"))
def test_what_comes_after_the_servers_flight_is_in_no_job(
    immured, make_nginx, authority, keys, preload, version
):
    """The client chooses the key in the file, so that no job waits."""
    host = "two.immure.test"
    pairs = [
        authority.file_key("two", host, "rsa:2048"),
        (keys["p256"].reference, authority.certify(keys["p256"], host)),
    ]
    lines = "".join(f"ssl_certificate_key {key}; ssl_certificate {file};" for key, file in pairs)
    nginx = preload(make_nginx(immured.socket))
    debug(nginx.configure((host, lines)))
    chosen = ("-sigalgs", "RSA-PSS+SHA256", "-cipher", "ECDHE-RSA-AES128-GCM-SHA256")
    assert jobs_of_a_visit(nginx, authority, host, version, *chosen) == 1


def test_a_handshake_that_waits_for_another_module_is_given_back_to_nginx(
    immured, make_nginx, authority, keys, preload, one_worker
):
    """As it does for Lua's ssl_client_hello_by_lua, with an nginx that knows of that."""
    key = keys["p256"]
    nginx = preload(make_nginx(immured.socket), "hello waits")
    debug(nginx.configure((key.host, certificate_lines(key)))).start()
    for visits in (1, 2):
        curl(authority, nginx.port, key.host)
        assert driven(nginx) == visits
        # The first blocks for its signature, as without the module.
        assert nginx.log().count("immure: waited") == visits - 1


# --- Mail -----------------------------------------------------------------------------------------


def imap(authority, port, host):
    context = ssl.create_default_context(cafile=authority.certificate)
    context.check_hostname = False
    with imaplib.IMAP4_SSL("127.0.0.1", port, ssl_context=context, timeout=20) as client:
        assert "IMAP4REV1" in client.capabilities


def smtp_starttls(authority, port, host):
    context = ssl.create_default_context(cafile=authority.certificate)
    context.check_hostname = False
    with smtplib.SMTP("127.0.0.1", port, timeout=20) as client:
        client.starttls(context=context)
        assert client.ehlo()[0] == 250


@pytest.mark.skipif(not Path(MAIL).exists(), reason="libnginx-mod-mail is not here")
@pytest.mark.parametrize("first", ("mail", "immure"))
@pytest.mark.parametrize(
    "visit, protocol",
    [(imap, "ssl; protocol imap;"), (smtp_starttls, "; protocol smtp; starttls on;")],
)
def test_mail_servers_are_asynchronous_too(
    make_slow, make_nginx, authority, keys, first, visit, protocol
):
    slow, key, port = make_slow(), keys["p256"], free_port()
    nginx = make_nginx(slow.socket).configure()
    server = f"listen 127.0.0.1:{port} {protocol} {certificate_lines(key)}"
    before, load = nginx.module, f"load_module {MAIL};\n"
    both = load + before if first == "mail" else before + load
    text = nginx.conf.read_text().replace(before, both)
    # There is no http block: the mail block loads the provider.
    nginx.conf.write_text(
        text[: text.index("http {")]
        + f"mail {{ server_name mail.test; auth_http 127.0.0.1:1; server {{ {server} }} }}"
    )
    nginx.start()

    def visits():
        with ThreadPoolExecutor(8) as pool:
            for result in [pool.submit(visit, authority, port, key.host) for _ in range(8)]:
                result.result()

    assert most_in_flight(slow, visits) > 2
    assert "alert" not in nginx.log()


# --- What runs out, and what comes meanwhile ------------------------------------------------------


def test_replies_are_taken_when_no_connection_is_left_to_watch_for_them(
    make_slow, make_nginx, authority, keys, one_worker
):
    slow, key = make_slow(), keys["p256"]
    nginx = make_nginx(slow.socket).configure((key.host, certificate_lines(key)))
    edit(nginx, ("worker_connections 512", "worker_connections 16")).start()
    hello = client_hello(key.host)
    full = "worker_connections are not enough"

    halves = []
    while full not in nginx.log():
        halves.append(socket.create_connection(("127.0.0.1", nginx.port)))
        halves[-1].sendall(hello[:50])
        time.sleep(0.05)
    before = nginx.log().count(full)
    halves[0].close()
    time.sleep(0.1)
    handshake(authority, nginx.port, key.host)
    assert nginx.log().count(full) > before
    for half in halves[1:]:
        half.close()
    time.sleep(0.1)
    assert most_in_flight(slow, lambda: many_handshakes(authority, nginx.port, key.host, 6)) > 2


@pytest.mark.parametrize("version", ("1.2", "1.3"))
def test_a_handshake_that_gets_no_job_waits_for_its_signature(
    immured, make_nginx, authority, keys, preload, version
):
    key = keys["p256"]
    nginx = preload(make_nginx(immured.socket), "no jobs")
    debug(nginx.configure((key.host, certificate_lines(key)))).start()
    curl(authority, nginx.port, key.host, "--tls-max", version)
    assert driven(nginx) == 1
    assert "immure: waited" not in nginx.log()


@pytest.mark.parametrize("method", ("epoll", "poll", "select"))
def test_a_worker_that_waits_for_a_signature_does_not_spin(
    make_slow, make_nginx, authority, keys, one_worker, method
):
    slow, key = make_slow(1500), keys["p256"]
    nginx = make_nginx(slow.socket, timeout_ms=5000).configure((key.host, certificate_lines(key)))
    use(nginx, method).start()
    (worker,) = nginx.workers()
    with socket.create_connection(("127.0.0.1", nginx.port)) as client:
        client.sendall(client_hello(key.host))
        time.sleep(0.2)
        client.sendall(b"more")
        before = cpu_seconds(worker)
        time.sleep(1)
        assert cpu_seconds(worker) - before < 0.2
    assert most_in_flight(slow, lambda: many_handshakes(authority, nginx.port, key.host)) > 2


@pytest.mark.parametrize("method", ("epoll", "poll", "select"))
def test_a_reply_that_is_too_late_does_not_make_the_worker_spin(
    make_slow, make_nginx, authority, keys, one_worker, method
):
    slow, key = make_slow(600), keys["p256"]
    nginx = make_nginx(slow.socket, timeout_ms=300).configure((key.host, certificate_lines(key)))
    use(nginx, method).start()
    (worker,) = nginx.workers()
    for _ in range(2):
        with pytest.raises(OSError):
            handshake(authority, nginx.port, key.host)
        time.sleep(0.5)
        before = cpu_seconds(worker)
        time.sleep(1)
        assert cpu_seconds(worker) - before < 0.2


def wait_for_a_signature_under_way(immured):
    wait_until(lambda: immured.token_status()["in_flight"] == 1, "a signature under way")


def test_a_worker_leaves_no_connection_behind_whose_time_was_up_before_the_reply(
    hanging, make_nginx, keys, one_worker
):
    key = keys["p256"]
    nginx = make_nginx(hanging.immured.socket, timeout_ms=60000)
    nginx.configure((key.host, certificate_lines(key)))
    edit(nginx, ("access_log off;", "access_log off; client_header_timeout 1s;")).start()
    (worker,) = nginx.workers()
    with socket.create_connection(("127.0.0.1", nginx.port), timeout=10) as client:
        client.sendall(client_hello(key.host))
        wait_for_a_signature_under_way(hanging.immured)
        time.sleep(1.2)
        nginx.reload()
        wait_for_shutdown([worker])
        assert is_running(worker)
        hanging.module.clear()
        client.recv(1)
    wait_until(lambda: not is_running(worker), "the end of the old worker")
    assert "open socket" not in nginx.log()


def test_worker_shutdown_timeout_closes_handshakes_once_their_reply_is_there(
    hanging, make_nginx, authority, keys, one_worker
):
    key = keys["p256"]
    nginx = make_nginx(hanging.immured.socket, timeout_ms=60000)
    nginx.configure((key.host, certificate_lines(key)))
    edit(nginx, ("user www-data", "worker_shutdown_timeout 1s; user www-data")).start()
    (worker,) = nginx.workers()
    # One waits for the rest of the client's hello, one, accepted after it, for its signature.
    hello = client_hello(key.host)
    clients = [socket.create_connection(("127.0.0.1", nginx.port), timeout=10) for _ in range(2)]
    clients[0].sendall(hello[:50])
    clients[1].sendall(hello)
    wait_for_a_signature_under_way(hanging.immured)
    nginx.reload()
    assert clients[0].recv(1) == b""
    wait_for_shutdown([worker])
    assert is_running(worker)
    hanging.module.clear()
    wait_until(lambda: not is_running(worker), "the end of the old worker", 12)
    for client in clients:
        client.close()
    assert "open socket" not in nginx.log() and "signal 11" not in nginx.log()


# --- Configuration --------------------------------------------------------------------------------


def test_a_reload_that_changes_what_only_a_start_reads_says_so(
    immured, make_nginx, authority, keys
):
    key = keys["p256"]
    nginx = make_nginx(immured.socket).configure((key.host, certificate_lines(key))).start()
    nginx.reload()
    assert "until nginx is restarted" not in nginx.log()
    changed = "immure_socket /run/other.sock; immure_timeout 5s;"
    edit(nginx, (f"immure_socket {immured.socket};", changed))
    nginx.reload()
    curl(authority, nginx.port, key.host)
    for said in (
        f'immure_socket stays "{immured.socket}", not "/run/other.sock"',
        'immure_timeout (ms) stays "default", not "5000"',
    ):
        assert f"{said}, until nginx is restarted" in nginx.log()


def test_directives_that_stand_behind_a_key_name_the_blocks_to_stand_before(
    immured, make_nginx, authority, keys
):
    key = keys["p256"]
    nginx = make_nginx(immured.socket).configure((key.host, certificate_lines(key)))
    nginx.conf.write_text(nginx.conf.read_text() + "immure_timeout 5s;\n")
    said = '"immure_timeout" directive must stand before the "http", "stream" and "mail" blocks'
    assert said in nginx.test(status=1)
