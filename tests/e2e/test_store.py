"""nginx that opens keys through OSSL_STORE by itself: `ssl_certificate_key store:URI;`, from 1.29 on."""

import re
import time

import pytest
from harness.clients import curl, gnutls_cli, s_client
from harness.load import Load, many_handshakes, most_in_flight
from harness.nginx import NGINX, certificate_lines
from harness.process import run, wait_until

# What nginx calls a store's URI.
SCHEMES = {
    "immure": lambda key: f"store:immure:{key.name}",
    "pkcs11": lambda key: f"store:pkcs11:token=e2e;object={key.name}",
}
by_each_scheme = pytest.mark.parametrize("named", SCHEMES.values(), ids=SCHEMES)


def nginx_version():
    return tuple(map(int, re.search(r"nginx/([\d.]+)", run(NGINX, "-v").text)[1].split(".")))


pytestmark = pytest.mark.skipif(
    nginx_version() < (1, 29), reason="nginx has store: from 1.29 on; this one is older"
)


@by_each_scheme
def test_nginx_serves_each_type_to_clients_of_two_libraries(immured, make_nginx, authority, keys, named):
    servers = ((key.host, certificate_lines(key, named=named)) for key in keys.values())
    nginx = make_nginx(immured.socket).configure(*servers).start()
    for key in keys.values():
        for version in ("1.2", "1.3"):
            handshake = s_client(authority, nginx.port, key.host, f"-tls{version.replace('.', '_')}")
            assert handshake.protocol == f"TLSv{version}"
            priority = f"NORMAL:-VERS-ALL:+VERS-TLS{version}"
            assert gnutls_cli(authority, nginx.port, key.host, priority).protocol.startswith(f"TLS{version}")
    assert "error:" not in nginx.log(), nginx.log()


@by_each_scheme
def test_restarts_of_immured_and_reloads_under_load_fail_no_handshake(
    make_immured, make_nginx, authority, keys, named
):
    immured, served = make_immured().start(), [keys["p256"], keys["rsa2048"]]
    nginx = make_nginx(immured.socket)
    nginx.configure(*((key.host, certificate_lines(key, named=named)) for key in served)).start()
    with Load(authority, nginx.port, [key.host for key in served]) as load:
        for _ in range(3):
            nginx.reload()
            immured.kill()
            time.sleep(0.2)
            immured.start()
            load.wait_for(20)
        load.check()
    nginx.wait_for_old_workers()
    assert "exited on signal" not in nginx.log()


@pytest.mark.parametrize("hosting", ["by module"], indirect=True)
@by_each_scheme
def test_signatures_are_asynchronous(make_slow, make_nginx, authority, keys, monkeypatch, named):
    monkeypatch.setattr("harness.nginx.WORKERS", 1)
    slow, key = make_slow(300), keys["p256"]
    nginx = make_nginx(slow.socket).configure((key.host, certificate_lines(key, named=named))).start()
    assert most_in_flight(slow, lambda: many_handshakes(authority, nginx.port, key.host, 6)) > 2


@by_each_scheme
def test_a_reload_that_finds_no_key_leaves_nginx_serving(immured, make_nginx, authority, keys, named):
    key = keys["p256"]
    nginx = make_nginx(immured.socket).configure((key.host, certificate_lines(key, named=named))).start()
    nginx.edit(f"{key.name}'", "nobody'")
    assert "nobody" in nginx.test(status=1)
    before = nginx.workers()
    nginx.signal("SIGHUP")
    wait_until(lambda: "nobody" in nginx.log(), "the failed reload")
    curl(authority, nginx.port, key.host)
    assert nginx.workers() == before


def test_without_immured_the_configuration_test_says_so(make_immured, make_nginx, keys):
    socket, key = make_immured().socket, keys["p256"]
    nginx = make_nginx(socket).configure((key.host, certificate_lines(key, named=SCHEMES["immure"])))
    said = nginx.test(status=1)
    assert "immured unreachable" in said and str(socket) in said and "is it running?" in said, said
