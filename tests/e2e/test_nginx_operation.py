"""nginx as it is operated: started, reloaded, killed and upgraded, and so is immured."""

import signal

import pytest
from harness.clients import curl, s_client
from harness.load import Load
from harness.nginx import certificate_lines
from harness.process import end, wait_for_words, wait_until

RELOADS = 20


def test_configuration_test_passes_with_immured_down(make_immured, make_nginx, keys):
    nginx = make_nginx(make_immured().socket)
    nginx.configure(*((key.host, certificate_lines(key)) for key in keys.values()))
    assert "test is successful" in nginx.test()


def test_nginx_started_before_immured_serves_when_immured_is_up(
    make_immured, make_nginx, keys, authority
):
    immured, key = make_immured(), keys["p256"]
    nginx = make_nginx(immured.socket, timeout_ms=2000)
    nginx.configure((key.host, certificate_lines(key))).start()
    curl(authority, nginx.port, key.host, status=35)
    wait_for_words(nginx, str(immured.socket), "handshak")
    before = nginx.workers()
    immured.start()
    curl(authority, nginx.port, key.host)
    assert nginx.workers() == before


def test_reloads_of_nginx_under_load_fail_no_handshake(own, authority):
    with Load(authority, own.nginx.port, own.hosts) as load:
        for _ in range(RELOADS):
            own.nginx.reload()
        load.check()


def test_a_worker_that_is_killed_costs_only_what_it_had_in_hand(own, authority):
    with Load(authority, own.nginx.port, own.hosts) as load:
        victim = own.nginx.workers()[0]
        own.nginx.signal("SIGKILL", victim)
        wait_until(lambda: len(set(own.nginx.workers()) - {victim}) == 2, "a new worker")
        load.wait_for(20)
        # A TCP connection dies with its process; each client had at most one.
        assert len(load.failures) <= len(load.threads), str(load)
        assert all("reset" in failure or "EOF" in failure for failure in load.failures), str(load)


def test_a_worker_killed_between_handshakes_fails_none(own, authority):
    with Load(authority, own.nginx.port, own.hosts) as load:
        for victim in own.nginx.workers():
            load.pause()
            own.nginx.signal("SIGKILL", victim)
            load.resume()
            load.wait_for(10)
        load.check()


def test_binary_upgrade_under_load_fails_no_handshake(own, authority):
    nginx = own.nginx
    with Load(authority, nginx.port, own.hosts) as load:
        old = nginx.start_new_master()
        nginx.signal("SIGWINCH", old)
        load.wait_for(20)
        assert end(old, signal.SIGQUIT), "the old master does not end"
        load.check()


def test_immureds_worker_killed_under_load_fails_no_handshake(make_own, authority):
    own = make_own(timeout_ms=10000)
    with Load(authority, own.nginx.port, own.hosts) as load:
        for _ in range(3):
            victim = wait_until(own.immured.workers, "immured's worker")[0]
            own.nginx.signal("SIGKILL", victim)
            wait_until(lambda: set(own.immured.workers()) - {victim}, "immured's new worker")
            load.wait_for(20)
        load.check()


def test_reloads_of_immured_under_load_fail_no_handshake(make_own, authority):
    own = make_own(timeout_ms=10000)
    with Load(authority, own.nginx.port, own.hosts) as load:
        for _ in range(5):
            before = set(own.immured.workers())
            own.immured.reload()
            wait_until(lambda: set(own.immured.workers()) - before, "immured's new worker")
            load.wait_for(20)
        load.check()
    wait_until(lambda: len(own.immured.workers()) == 1, "end of immured's old workers")


def test_two_certificates_on_one_server_are_chosen_by_the_client(
    immured, make_nginx, keys, authority, directory
):
    """One name, an ECDSA and an RSA certificate."""
    nginx = make_nginx(immured.socket)
    host, rsa = keys["p256"].host, directory / "rsa.crt"
    csr = immured.cli("csr", "rsa2048", "--subject", f"/CN={host}", "--san", f"DNS:{host}")
    (directory / "rsa.csr").write_bytes(csr.stdout)
    authority.sign(directory / "rsa.csr", rsa)
    lines = certificate_lines(keys["p256"]) + (
        f"ssl_certificate {rsa}; ssl_certificate_key {keys['rsa2048'].reference};"
    )
    nginx.configure((host, lines)).start()
    for options, signature in (
        (("-tls1_3", "-sigalgs", "ecdsa_secp256r1_sha256"), "ECDSA SHA256"),
        (("-tls1_3", "-sigalgs", "rsa_pss_rsae_sha256"), "RSA-PSS SHA256"),
        (("-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256"), "ECDSA SHA256"),
        (("-tls1_2", "-cipher", "ECDHE-RSA-AES128-GCM-SHA256", "-sigalgs", "RSA+SHA256"), "RSA SHA256"),
    ):
        assert s_client(authority, nginx.port, host, *options).signature == signature


def test_each_server_name_gets_its_own_key(web, keys, authority):
    for key in keys.values():
        served = authority.openssl(
            *("s_client", "-connect", f"127.0.0.1:{web.port}", "-servername", key.host),
            *("-CAfile", authority.certificate, "-verify_return_error"),
        ).stdout
        assert authority.openssl("x509", "-noout", "-pubkey", input=served).stdout == (
            key.public_key.read_bytes()
        )


def test_a_key_named_by_a_variable_is_loaded_for_each_connection(
    immured, make_nginx, keys, authority, directory
):
    for key in keys.values():
        (directory / f"{key.host}.crt").symlink_to(key.certificate)
        (directory / f"{key.host}.pem").symlink_to(key.reference)
    lines = (
        f"ssl_certificate {directory}/$ssl_server_name.crt;"
        f"ssl_certificate_key {directory}/$ssl_server_name.pem;"
    )
    nginx = make_nginx(immured.socket).configure(("_", lines)).start()
    for key in keys.values():
        curl(authority, nginx.port, key.host)


@pytest.mark.slow
def test_a_long_outage_of_immured_ends_by_itself(own, authority):
    """Longer than the deadline: handshakes fail, and nothing has to be restarted afterwards."""
    own.immured.kill()
    curl(authority, own.nginx.port, own.hosts[0], status=35)
    own.immured.start()
    for host in own.hosts:
        curl(authority, own.nginx.port, host)
