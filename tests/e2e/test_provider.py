"""The provider in programs other than nginx: openssl, curl, and small hosts with threads and forks."""

import os
import subprocess

import pytest
from harness.clients import curl, s_client
from harness.nginx import NGINX, certificate_lines
from harness.process import free_port, is_listening, run, wait_until

# The three ways to name a key.
NAMES = {
    "reference": lambda key: str(key.reference),
    "name": lambda key: f"immure:{key.name}",
    "pkcs11": lambda key: f"pkcs11:token=e2e;object={key.name}",
}
ORDERS = [("default", "immure"), ("immure", "default")]
SIGNING_TYPES = ("p256", "p384", "p521", "rsa2048", "rsa3072", "rsa4096")
STREAMED = 50 * 1024 * 1024

by_each_name = pytest.mark.parametrize("named", NAMES.values(), ids=NAMES)


@pytest.fixture
def message(directory):
    path = directory / "message"
    path.write_bytes(b"to be signed")
    return path


# --- openssl's commands, verified by an openssl without the provider -----------------------------


@by_each_name
def test_pkey_prints_the_public_key(openssl, keys, named):
    for key in keys.values():
        printed = openssl("pkey", "-in", named(key), "-pubout").stdout
        assert printed == key.public_key.read_bytes()


@by_each_name
@pytest.mark.parametrize("key_type", SIGNING_TYPES)
def test_dgst_signs(openssl, authority, keys, directory, message, named, key_type):
    key, signature = keys[key_type], directory / "signature"
    openssl("dgst", "-sha384", "-sign", named(key), "-out", signature, message)
    authority.openssl(
        "dgst", "-sha384", "-verify", key.public_key, "-signature", signature, message
    )


@pytest.mark.parametrize("key_type", ("p256", "rsa2048"))
def test_dgst_signs_a_large_stream(openssl, authority, keys, directory, key_type):
    key, signature, large = keys[key_type], directory / "signature", directory / "large"
    with open(large, "wb") as file:
        file.truncate(STREAMED)
    openssl("dgst", "-sha256", "-sign", key.reference, "-out", signature, large)
    authority.openssl("dgst", "-sha256", "-verify", key.public_key, "-signature", signature, large)
    large.unlink()


@pytest.mark.parametrize("digest, salt", [("sha256", "digest"), ("sha512", "digest"), ("sha256", "32")])
def test_dgst_signs_with_pss(openssl, authority, keys, directory, message, digest, salt):
    key, signature = keys["rsa2048"], directory / "signature"
    pss = ("-sigopt", "rsa_padding_mode:pss", "-sigopt", f"rsa_pss_saltlen:{salt}")
    openssl("dgst", f"-{digest}", *pss, "-sign", key.reference, "-out", signature, message)
    authority.openssl(
        "dgst", f"-{digest}", *pss, "-verify", key.public_key, "-signature", signature, message
    )


PSS_OPTIONS = ("digest:sha256", "rsa_padding_mode:pss", "rsa_pss_saltlen:32", "rsa_mgf1_md:sha256")


def pss_signature(openssl, keys, directory, *options, **outcome):
    """Of a digest of SHA-256's size, with options in this order."""
    digest, signature = directory / "digest", directory / "signature"
    digest.write_bytes(bytes(32))
    words = [word for option in options for word in ("-pkeyopt", option)]
    inkey = ("-inkey", keys["rsa2048"].reference)
    return openssl("pkeyutl", "-sign", *inkey, "-in", digest, "-out", signature, *words, **outcome)


# Padding before the others, on which OpenSSL insists; the digest anywhere.
@pytest.mark.parametrize("order", ((0, 1, 2, 3), (1, 2, 3, 0), (1, 3, 0, 2)))
def test_pkeyutl_takes_pss_options_before_the_digest_and_after_it(
    openssl, authority, keys, directory, order
):
    pss_signature(openssl, keys, directory, *(PSS_OPTIONS[i] for i in order))
    words = [word for option in PSS_OPTIONS for word in ("-pkeyopt", option)]
    authority.openssl(
        "pkeyutl", "-verify", "-pubin", "-inkey", keys["rsa2048"].public_key,
        "-in", directory / "digest", "-sigfile", directory / "signature", *words,
    )


@pytest.mark.parametrize("wrong", ("rsa_pss_saltlen:64", "rsa_mgf1_md:sha512"))
def test_pss_options_that_fitted_another_digest_are_refused(openssl, keys, directory, wrong):
    pss, fitted, digest = "rsa_padding_mode:pss", "digest:sha512", "digest:sha256"
    for options in ((fitted, pss, wrong, digest), (pss, wrong, digest), (digest, pss, wrong)):
        text = pss_signature(openssl, keys, directory, *options, status=1).text
        assert "not supported for keys in an HSM" in text


@by_each_name
@pytest.mark.parametrize("key_type", SIGNING_TYPES)
def test_pkeyutl_signs_a_digest(openssl, authority, keys, directory, named, key_type):
    key, digest, signature = keys[key_type], directory / "digest", directory / "signature"
    digest.write_bytes(os.urandom(32))
    common = ("-in", digest, "-pkeyopt", "digest:sha256")
    openssl("pkeyutl", "-sign", "-inkey", named(key), "-out", signature, *common)
    authority.openssl(
        *("pkeyutl", "-verify", "-pubin", "-inkey", key.public_key, "-sigfile", signature), *common
    )


@by_each_name
def test_pkeyutl_signs_with_ed25519(openssl, authority, keys, directory, message, named):
    key, signature = keys["ed25519"], directory / "signature"
    common = ("-rawin", "-in", message)
    openssl("pkeyutl", "-sign", "-inkey", named(key), "-out", signature, *common)
    authority.openssl(
        *("pkeyutl", "-verify", "-pubin", "-inkey", key.public_key, "-sigfile", signature), *common
    )


@by_each_name
def test_req_makes_a_csr(openssl, authority, keys, directory, named):
    for key in keys.values():
        csr = directory / f"{key.name}.csr"
        openssl("req", "-new", "-key", named(key), "-subj", f"/CN={key.host}", "-out", csr)
        verified = authority.openssl("req", "-in", csr, "-noout", "-verify", "-pubkey")
        assert key.public_key.read_bytes() in verified.stdout


@by_each_name
def test_x509_signs_as_a_ca(openssl, authority, keys, directory, named):
    _, subject = authority.file_key("subject", "subject.immure.test")
    for key in keys.values():
        own, signed = directory / f"{key.name}.ca", directory / f"{key.name}.signed"
        openssl(
            *("req", "-x509", "-new", "-key", named(key), "-subj", "/CN=CA in a token"),
            *("-addext", "basicConstraints=critical,CA:true", "-out", own),
        )
        openssl(
            *("x509", "-req", "-in", authority.directory / "subject.csr", "-CA", own),
            *("-CAkey", named(key), "-out", signed),
        )
        authority.openssl("verify", "-CAfile", own, signed)


@by_each_name
def test_s_server_serves(stage, openssl_conf, authority, keys, named):
    for key in keys.values():
        port = free_port()
        server = subprocess.Popen(
            ["openssl", "s_server", "-accept", f"127.0.0.1:{port}", "-quiet",
             "-cert", key.certificate, "-key", named(key)],
            env=stage.host_env(openssl_conf),
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )
        try:
            wait_until(lambda: is_up(server) and is_listening(port), "s_server")
            assert s_client(authority, port, key.host, "-tls1_3").protocol == "TLSv1.3"
            assert s_client(authority, port, key.host, "-tls1_2").protocol == "TLSv1.2"
        finally:
            server.kill()
            server.communicate()


def is_up(server):
    assert server.poll() is None, server.stderr.read().decode()
    return True


@pytest.mark.slow  # curl does not start with AddressSanitizer's library in it
@pytest.mark.parametrize("key_type", ("p256", "rsa2048", "ed25519"))
def test_curl_presents_a_client_certificate(
    stage, openssl_conf, authority, immured, make_nginx, keys, key_type
):
    server, client = keys["p384"], keys[key_type]
    nginx = make_nginx(immured.socket)
    lines = certificate_lines(server) + (
        f"ssl_client_certificate {authority.certificate}; ssl_verify_client on;"
        "location /who { return 200 $ssl_client_s_dn; }"
    )
    nginx.configure((server.host, lines)).start()
    for version in ("1.2", "1.3"):
        who = curl(
            *(authority, nginx.port, server.host, f"--tlsv{version}", "--tls-max", version),
            *("--cert", client.certificate, "--key", client.reference),
            path="/who", env=stage.host_env(openssl_conf),
        )
        assert who == f"CN={client.host}"
    curl(authority, nginx.port, server.host, path="/who", status=22)  # without one: 400


# --- What is refused -----------------------------------------------------------------------------


@by_each_name
def test_a_private_key_is_not_exported(openssl, keys, named):
    for key in keys.values():
        for command in (["pkey", "-outform", "DER"], ["pkcs8", "-topk8", "-nocrypt"], ["pkey", "-text"]):
            result = openssl(*command, "-in", named(key), status=None)
            assert result.returncode != 0 and "PRIVATE KEY" not in result.text, f"{command} {key}"
    result = openssl("pkey", "-in", named(keys["p256"]), status=None)
    assert "is in the HSM and cannot be exported" in result.text, result.text


@pytest.mark.parametrize("uri", ("immure:nobody", "pkcs11:token=e2e;object=nobody"))
def test_a_key_that_is_not_there_is_named(openssl, keys, uri):
    assert "nobody" in openssl("pkey", "-in", uri, "-pubout", status=1).text


def test_a_user_with_a_grant_for_tls_can_sign_nothing_else(stage, openssl_conf, keys, message):
    for key in keys.values():
        result = run(
            *("setpriv", "--reuid=www-data", "--regid=www-data", "--clear-groups"),
            *("openssl", "pkeyutl", "-sign", "-rawin", "-in", message, "-inkey", key.reference),
            env=stage.host_env(openssl_conf), status=None,
        )
        assert result.returncode != 0
        assert "refused" in result.text or "not granted" in result.text, result.text


def test_immured_out_of_reach_is_an_error_with_its_socket(stage, openssl, keys, directory, message):
    conf = stage.write_openssl_conf(directory / "o.cnf", directory / "none.sock", timeout_ms=200)
    text = openssl("dgst", "-sign", keys["p256"].reference, message, conf=conf, status=1).text
    assert str(directory / "none.sock") in text


def test_the_environment_names_the_socket(stage, authority, keys, immured, directory, message):
    conf = stage.write_openssl_conf(directory / "o.cnf", "X")
    conf.write_text(conf.read_text().replace("socket = X\n", ""))
    env = stage.host_env(conf) | {"IMMURE_SOCKET": str(immured.socket)}
    run("openssl", "dgst", "-sign", keys["p256"].reference, message, env=env)


# --- Everything else is as without the provider --------------------------------------------------


@pytest.fixture(params=ORDERS, ids=["default first", "immure first"])
def conf(request, stage, immured, directory):
    """openssl.cnf with the two providers activated in this order, and in the other."""
    return stage.write_openssl_conf(directory / "order.cnf", immured.socket, order=request.param)


@pytest.mark.parametrize(
    "options",
    ["RSA -pkeyopt rsa_keygen_bits:2048", "EC -pkeyopt ec_paramgen_curve:P-256", "ED25519", "X25519"],
)
def test_keys_in_files_are_made_and_used_by_openssl_itself(
    openssl, authority, directory, message, conf, options
):
    key, public = directory / "file.key", directory / "file.pub"
    openssl("genpkey", "-algorithm", *options.split(), "-out", key, conf=conf)
    openssl("pkey", "-in", key, "-pubout", "-out", public, conf=conf)
    assert authority.openssl("pkey", "-in", key, "-pubout").stdout == public.read_bytes()
    if options == "X25519":
        derived = openssl("pkeyutl", "-derive", "-inkey", key, "-peerkey", public, conf=conf).stdout
        assert len(derived) == 32
        return
    signature, common = directory / "signature", ("-rawin", "-in", message)
    openssl("pkeyutl", "-sign", "-inkey", key, "-out", signature, *common, conf=conf)
    verify = ("pkeyutl", "-verify", "-pubin", "-inkey", public, "-sigfile", signature, *common)
    openssl(*verify, conf=conf)
    authority.openssl(*verify)


def test_signatures_of_token_keys_do_not_depend_on_the_order(
    openssl, authority, directory, keys, message, conf
):
    signature = directory / "signature"
    for key in keys.values():
        common = ("-rawin", "-in", message, "-sigfile", signature)
        openssl("pkeyutl", "-sign", "-inkey", key.reference, "-rawin", "-in", message, "-out", signature, conf=conf)
        authority.openssl("pkeyutl", "-verify", "-pubin", "-inkey", key.public_key, *common)
        openssl("pkeyutl", "-verify", "-pubin", "-inkey", key.public_key, *common, conf=conf)


def test_random_numbers_and_certificates_are_openssls_own(openssl, authority, keys, conf):
    assert len(openssl("rand", "64", conf=conf).stdout) == 64
    for key in keys.values():
        openssl("verify", "-CAfile", authority.certificate, key.certificate, conf=conf)


@pytest.mark.parametrize("group", ("P-384", "X25519"))
def test_a_server_with_a_key_in_a_file_works_as_ever(
    stage, authority, immured, make_nginx, conf, group
):
    if other := stage.other_libcrypto(NGINX):  # then the order matters
        pytest.skip(other)
    host = "file.immure.test"
    key, certificate = authority.file_key("file", host)
    nginx = make_nginx(immured.socket)
    nginx.env["OPENSSL_CONF"] = str(conf)
    nginx.configure((host, f"ssl_certificate {certificate}; ssl_certificate_key {key};")).start()
    # In TLS 1.2 the group of the certificate's key has to be there as well.
    for options in (("-tls1_2", "-groups", f"{group}:P-256"), ("-tls1_3", "-groups", group)):
        handshake = s_client(authority, nginx.port, host, *options)
        assert handshake.signature == "ECDSA SHA256"


def test_a_client_with_the_provider_verifies_as_ever(openssl, authority, web, keys, conf):
    for key in keys.values():
        for version in ("-tls1_2", "-tls1_3"):
            connect = ("s_client", version, "-connect", f"127.0.0.1:{web.port}")
            verify = ("-servername", key.host, "-verify_hostname", key.host, "-verify_return_error")
            openssl(*connect, *verify, "-CAfile", authority.certificate, conf=conf)


# --- Hosts with threads and forks ----------------------------------------------------------------


@by_each_name
def test_sixteen_threads_sign_with_one_key(stage, openssl_conf, host_program, keys, named):
    for key_type in ("p256", "rsa2048", "ed25519"):
        run(host_program("threads"), named(keys[key_type]), 16, 25, env=stage.host_env(openssl_conf))


@pytest.mark.slow
def test_threads_that_load_their_first_keys_together_all_get_them(
    stage, openssl_conf, host_program, keys
):
    loop = 'for _ in $(seq 150); do "$@" || exit; done'  # OpenSSL 3.0 lost names in 2 to 10 of 100
    first_keys = (host_program("first_keys"), keys["p256"].reference, 8)
    run("sh", "-c", loop, "sh", *first_keys, env=stage.host_env(openssl_conf))


@pytest.mark.slow  # a sanitizer has made the first key for itself
def test_provider_that_does_not_start_leaves_the_hosts_thread_keys(stage, directory, host_program):
    conf = stage.write_openssl_conf(directory / "bad.cnf", directory / "s", timeout_ms="0")
    run(host_program("first_thread_key"), env=stage.host_env(conf))


def test_a_job_that_must_not_be_paused_sleeps_until_it_is_answered(
    stage, directory, make_slow, host_program, keys
):
    conf = stage.write_openssl_conf(directory / "o.cnf", make_slow(900).socket, timeout_ms=20000)
    run(host_program("blocked_pause"), keys["p256"].reference, env=stage.host_env(conf))


@by_each_name
@pytest.mark.parametrize(
    "order",
    # AddressSanitizer's allocator does not survive a fork of a process with threads.
    ("before", "after", pytest.param("threads", marks=pytest.mark.slow)),
)
def test_forks_in_any_order_leave_every_process_signing(
    stage, openssl_conf, host_program, keys, named, order
):
    run(host_program("forks"), order, named(keys["p256"]), env=stage.host_env(openssl_conf))


@pytest.mark.slow
def test_memory_does_not_grow_over_3000_loads_of_a_configuration(
    stage, openssl_conf, host_program, keys
):
    key, env = keys["p256"], stage.host_env(openssl_conf)
    run(host_program("reloads"), key.certificate, key.reference, 3000, env=env)


@pytest.mark.slow
@pytest.mark.parametrize("own_context, loads", [(False, 300), (True, 30)], ids=["one context", "a context each"])
def test_valgrind_finds_no_leak_over_many_loads_of_a_configuration(
    stage, authority, openssl_conf, host_program, keys, own_context, loads
):
    if stage.sanitized:
        pytest.skip("valgrind cannot run a program with AddressSanitizer in it")
    key = keys["rsa2048"]
    conf = authority.plain_conf if own_context else openssl_conf
    run(
        # Its mallinfo2(), if it has one, counts what it keeps of freed memory.
        *("valgrind", "--freelist-vol=0", "--quiet", "--leak-check=full"),
        *("--show-leak-kinds=definite,indirect,possible", "--error-exitcode=9"),
        "--errors-for-leak-kinds=definite,indirect,possible",
        *(host_program("reloads"), key.certificate, key.reference, loads),
        *((openssl_conf,) if own_context else ()),
        env=stage.host_env(conf), timeout=300,
    )
