"""nginx that opens keys through OSSL_STORE by itself: `ssl_certificate_key store:URI;`, from 1.29 on.

test_servers.py has it in its table; this is what is peculiar to it.
"""

import pytest
from harness.clients import curl
from harness.load import many_handshakes, most_in_flight
from harness.nginx import certificate_lines, nginx_version
from harness.process import wait_until

# What nginx calls a store's URI.
SCHEMES = {
    "immure": lambda key: f"store:immure:{key.name}",
    "pkcs11": lambda key: f"store:pkcs11:token=e2e;object={key.name}",
}
by_each_scheme = pytest.mark.parametrize("named", SCHEMES.values(), ids=SCHEMES)

pytestmark = pytest.mark.skipif(
    nginx_version() < (1, 29), reason="nginx has store: from 1.29 on; this one is older"
)


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
    before, said = nginx.workers(), nginx.log().count("nobody")
    nginx.signal("SIGHUP")
    wait_until(lambda: nginx.log().count("nobody") > said, "the failed reload")
    curl(authority, nginx.port, key.host)
    assert nginx.workers() == before


def test_without_immured_the_configuration_test_says_so(make_immured, make_nginx, keys):
    socket, key = make_immured().socket, keys["p256"]
    nginx = make_nginx(socket).configure((key.host, certificate_lines(key, named=SCHEMES["immure"])))
    said = nginx.test(status=1)
    assert "immured unreachable" in said and str(socket) in said and "is it running?" in said, said
