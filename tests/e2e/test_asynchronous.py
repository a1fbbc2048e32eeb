"""Handshakes that do not wait for each other: nginx with Immure's module."""

import os
import socket
import ssl
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from harness.clients import curl, handshake
from harness.load import Load, leave_in_the_middle, many_handshakes, most_in_flight
from harness.nginx import STREAM, certificate_lines
from harness.process import descriptors, free_port, wait_for_words, wait_until

# Long enough for several handshakes to be under way at once, whatever the machine is doing.
SLOW_MS = 300

only_with_the_module = pytest.mark.parametrize("hosting", ["by module"], indirect=True)


@pytest.fixture
def slow(make_slow):
    return make_slow(SLOW_MS)


@only_with_the_module
def test_handshakes_of_one_worker_are_under_way_together(slow, make_nginx, authority, keys, monkeypatch):
    monkeypatch.setattr("harness.nginx.WORKERS", 1)
    key = keys["p256"]
    nginx = make_nginx(slow.socket).configure((key.host, certificate_lines(key))).start()
    most = most_in_flight(slow, lambda: many_handshakes(authority, nginx.port, key.host))
    assert most > 2
    assert "alert" not in nginx.log()


@only_with_the_module
def test_immure_async_off_makes_them_wait_for_each_other(
    slow, make_nginx, authority, keys, monkeypatch
):
    monkeypatch.setattr("harness.nginx.WORKERS", 1)
    key = keys["p256"]
    nginx = make_nginx(slow.socket)
    nginx.configure((key.host, "immure_async off;" + certificate_lines(key))).start()
    assert most_in_flight(slow, lambda: many_handshakes(authority, nginx.port, key.host, 4)) == 1


@only_with_the_module
def test_other_connections_are_served_while_immured_is_away(
    make_immured, make_nginx, authority, keys, monkeypatch
):
    monkeypatch.setattr("harness.nginx.WORKERS", 1)
    immured, key = make_immured().start(), keys["p256"]
    nginx = make_nginx(immured.socket).configure((key.host, certificate_lines(key))).start()
    context = ssl.create_default_context(cafile=authority.certificate)
    with socket.create_connection(("127.0.0.1", nginx.port), timeout=10) as plain:
        with context.wrap_socket(plain, server_hostname=key.host) as established:
            immured.kill()
            with ThreadPoolExecutor(1) as pool:
                other = pool.submit(handshake, authority, nginx.port, key.host)
                time.sleep(0.2)
                request = f"GET / HTTP/1.1\r\nHost: {key.host}\r\n\r\n".encode()
                for _ in range(5):
                    established.sendall(request)
                    assert b"200 OK" in established.recv(4096)
                assert not other.done()
                with pytest.raises(OSError):
                    other.result()
    wait_for_words(nginx, str(immured.socket))
    immured.start()
    curl(authority, nginx.port, key.host)


@only_with_the_module
def test_signatures_that_are_pending_when_immured_is_killed_are_asked_for_again(
    slow, make_nginx, authority, keys
):
    key = keys["p256"]
    nginx = make_nginx(slow.socket, timeout_ms=10000)
    nginx.configure((key.host, certificate_lines(key))).start()
    with Load(authority, nginx.port, [key.host], threads=8) as load:
        for _ in range(3):
            slow.kill()
            slow.start()
            load.wait_for(4)
        load.check()


@only_with_the_module
def test_clients_that_leave_cost_nothing(slow, make_nginx, authority, keys, monkeypatch):
    monkeypatch.setattr("harness.nginx.WORKERS", 1)  # each connects to immured, once it has to
    key = keys["rsa2048"]
    nginx = make_nginx(slow.socket).configure((key.host, certificate_lines(key))).start()
    many_handshakes(authority, nginx.port, key.host)
    time.sleep(2 * SLOW_MS / 1000)
    before = descriptors(nginx.workers())
    workers = nginx.workers()
    leave_in_the_middle(nginx.port, key.host, 200)
    many_handshakes(authority, nginx.port, key.host)
    wait_until(lambda: descriptors(nginx.workers()) <= before, "the end of their connections", 30)
    assert nginx.workers() == workers, nginx.log()
    assert "[alert]" not in nginx.log() and "signal 11" not in nginx.log()


@only_with_the_module
def test_reload_with_signatures_pending_fails_no_handshake(slow, make_nginx, authority, keys):
    key = keys["p256"]
    nginx = make_nginx(slow.socket).configure((key.host, certificate_lines(key))).start()
    with Load(authority, nginx.port, [key.host], threads=8) as load:
        for _ in range(5):
            nginx.reload()
            load.wait_for(4)
        load.check()
    assert "[alert]" not in nginx.log()


@only_with_the_module
def test_http2_and_a_client_certificate_work(immured, make_nginx, authority, keys):
    key = keys["p256"]
    nginx = make_nginx(immured.socket)
    verify = f"ssl_verify_client on; ssl_client_certificate {authority.certificate};"
    nginx.configure((key.host, certificate_lines(key) + verify)).edit(" ssl;", " ssl http2;").start()
    client_key, client_certificate = authority.file_key("visitor", "visitor")
    text = curl(
        *(authority, nginx.port, key.host, "--http2", "--write-out", "version %{http_version}"),
        *("--key", client_key, "--cert", client_certificate),
    )
    assert "version 2" in text


@only_with_the_module
def test_the_access_log_has_the_key_and_the_wait(slow, make_nginx, authority, keys):
    key = keys["p256"]
    nginx = make_nginx(slow.socket).configure((key.host, certificate_lines(key)))
    nginx.log_requests("key=$immure_key wait=$immure_wait").start()
    curl(authority, nginx.port, key.host)
    name, wait = nginx.requests(1)[0].split()
    assert name == "key=p256" and int(wait.removeprefix("wait=")) >= SLOW_MS - 50


@only_with_the_module
@pytest.mark.parametrize(
    "line, says",
    [
        ("immure_socket immure.sock;", "give an absolute path"),
        ("immure_timeout 0;", "give 1ms to 60000ms"),
        ("immure_timeout 61s;", "give 1ms to 60000ms"),
        ("immure_timeout soon;", "give 1ms to 60000ms"),
        ("immure_async maybe;", 'it must be "on" or "off"'),
    ],
)
def test_a_wrong_value_is_named_with_file_and_line(immured, make_nginx, keys, line, says):
    nginx = make_nginx(immured.socket)
    nginx.configure((keys["p256"].host, certificate_lines(keys["p256"])))
    text = nginx.conf.read_text()
    if "async" in line:
        text = text.replace("http {", f"http {{ {line}")
    else:
        lines = [l for l in text.split("\n") if not l.startswith(line.split()[0])]
        text = "\n".join([lines[0], lines[1], line, *lines[2:]])
    nginx.conf.write_text(text)
    error = nginx.test(status=1)
    assert says in error and f"{nginx.conf}:" in error


@only_with_the_module
@pytest.mark.skipif(not os.path.exists(STREAM), reason="libnginx-mod-stream is not here")
@pytest.mark.parametrize("first", ("stream", "immure"))
def test_stream_servers_are_asynchronous_too(slow, make_nginx, authority, keys, first):
    key, port = keys["p256"], free_port()
    nginx = make_nginx(slow.socket).configure((key.host, certificate_lines(key)))
    stream = (
        f"stream {{ server {{ listen 127.0.0.1:{port} ssl; {certificate_lines(key)}"
        ' return "streamed\\n"; } }'
    )
    load = f"load_module {STREAM};\n"
    text = nginx.conf.read_text()
    text = load + text if first == "stream" else text.replace("immure_socket", load + "immure_socket", 1)
    nginx.conf.write_text(text + stream)
    nginx.start()
    assert most_in_flight(slow, lambda: many_handshakes(authority, port, key.host)) > 2
