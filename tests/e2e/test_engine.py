"""The engine, in programs that name a key by engine and id; none of them has the provider configured."""

import signal
import subprocess
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
from harness.clients import curl, gnutls_cli, s_client
from harness.load import Load, many_handshakes, most_in_flight
from harness.nginx import Nginx, certificate_lines, has_engines, module_lines, no_module
from harness.pki import KEY_TYPES
from harness.process import end, free_port, is_listening, run, wait_until
from harness.stage import BUILD

pytestmark = pytest.mark.skipif(
    not (BUILD / "src/engine/immure.so").exists(), reason="OpenSSL has no engines: ours is not built"
)

# What an id may be.
IDS = {
    "name": lambda key: key.name,
    "URI": lambda key: f"immure:{key.name}",
    "key id": lambda key: key.id.hex(),
    "pkcs11": lambda key: f"pkcs11:token=e2e;object={key.name}",
    "reference": lambda key: key.reference,
}
by_each_id = pytest.mark.parametrize("named", IDS.values(), ids=IDS)
by_each_type = pytest.mark.parametrize("key_type", KEY_TYPES)

# Without the first line OpenSSL 3.0 keeps to itself what is wrong below.
ENGINE_CONF = """
config_diagnostics = 1
openssl_conf = init
[init]
engines = engines
[engines]
immure = engine
[engine]
{lines}
[req]
distinguished_name = dn
[dn]
"""


def engine_lines(*keys, named=IDS["name"]):
    return certificate_lines(*keys, named=lambda key: f"engine:immure:{named(key)}")


@pytest.fixture
def env(stage, authority, immured):
    """For programs that find engine and provider where OpenSSL looks, with no configuration."""
    return stage.host_env(authority.plain_conf) | stage.engine_env(immured.socket)


@pytest.fixture
def openssl(env):
    """openssl, which has the engine loaded when -engine tells it to."""
    return lambda *arguments, **options: run("openssl", *arguments, **({"env": env} | options))


@pytest.fixture
def message(directory):
    path = directory / "message"
    path.write_bytes(b"to be signed")
    return path


@pytest.fixture(scope="session", params=["engine alone", "engine and module"])
def hosting(request, stage):
    """Whether nginx has Immure's module, too."""
    if not has_engines():
        pytest.skip("this nginx was built without engines")
    if request.param == "engine and module" and no_module(stage):
        pytest.skip(no_module(stage))
    return request.param


@pytest.fixture
def make_nginx(stage, directory, hosting, authority):
    """Makes an nginx of the test's own with `ssl_engine immure;`; not configured, not started."""
    made = []

    def make(socket):
        lines = "ssl_engine immure;\n"
        if hosting == "engine and module":
            lines = module_lines(stage, socket) + lines
        where, env = directory / f"nginx{len(made)}", stage.engine_env(socket)
        made.append(Nginx(stage, where, authority.plain_conf, lines, env=env))
        return made[-1]

    yield make
    for nginx in made:
        nginx.stop()


@pytest.fixture
def own(make_immured, make_nginx, keys):
    """An immured and an nginx that a test may kill."""
    immured = make_immured().start()
    served = [keys["p256"], keys["rsa2048"]]
    nginx = make_nginx(immured.socket)
    nginx.configure(*((key.host, engine_lines(key)) for key in served)).start()
    return SimpleNamespace(
        immured=immured, nginx=nginx, hosts=[key.host for key in served],
        log=lambda: f"{immured.log()}\n--- nginx\n{nginx.log()}",
    )


# --- openssl's commands, verified by an openssl without the engine -------------------------------


def test_the_engine_is_available_without_immured(openssl, authority, env):
    said = openssl("engine", "-t", "immure", env=env | {"IMMURE_SOCKET": "/nowhere"}).text
    assert said.split("\n")[:2] == ["(immure) Immure: keys in an HSM", "     [ available ]"], said


@by_each_id
def test_dgst_signs_and_verifies_with_each_id(openssl, authority, keys, directory, message, named):
    key, signature = keys["p256"], directory / "signature"
    with_key = ("-engine", "immure", "-keyform", "engine")
    openssl("dgst", "-sha256", *with_key, "-sign", named(key), "-out", signature, message)
    signed = ("-signature", signature, message)
    assert "Verified OK" in authority.openssl("dgst", "-sha256", "-verify", key.public_key, *signed).text
    assert "Verified OK" in openssl("dgst", "-sha256", *with_key, "-verify", named(key), *signed).text


@by_each_type
def test_req_and_x509_sign_with_each_type(openssl, authority, keys, directory, key_type):
    key, csr, ca, signed = keys[key_type], *(directory / name for name in ("csr", "ca", "signed"))
    request = ("req", "-new", "-engine", "immure", "-keyform", "engine", "-key", key.name)
    openssl(*request, "-subj", "/CN=subject", "-out", csr)
    assert key.public_key.read_text() in authority.openssl("req", "-in", csr, "-verify", "-pubkey").text
    extension = ("-addext", "basicConstraints=critical,CA:true")
    openssl(*request, "-x509", "-subj", "/CN=CA in a token", *extension, "-out", ca)
    openssl(
        *("x509", "-req", "-in", csr, "-engine", "immure", "-CA", ca, "-CAkeyform", "engine"),
        *("-CAkey", key.name, "-out", signed),
    )
    authority.openssl("verify", "-CAfile", ca, signed)


@by_each_type
def test_s_server_serves_clients_of_two_libraries(env, authority, keys, directory, key_type):
    key, port = keys[key_type], free_port()
    with s_server(env, directory, port, "-cert", key.certificate, "-key", key.name):
        for version in ("1_2", "1_3"):
            assert s_client(authority, port, key.host, f"-tls{version}").signature
            tls = version.replace("_", ".")
            said = gnutls_cli(authority, port, key.host, f"NORMAL:-VERS-ALL:+VERS-TLS{tls}")
            assert said.protocol.startswith(f"TLS{tls}")


@contextmanager
def s_server(env, directory, port, *options):
    command = "openssl s_server -engine immure -keyform engine -quiet -accept".split()
    with open(directory / "s_server.log", "wb") as log:
        server = subprocess.Popen(
            [*command, f"127.0.0.1:{port}", *options], env=env, stdin=subprocess.DEVNULL,
            stdout=log, stderr=log,
        )
    try:
        wait_until(lambda: is_listening(port) or server.poll() is not None, "s_server")
        assert server.poll() is None, (directory / "s_server.log").read_text()
        yield server
    finally:
        server.terminate()
        server.wait()


@pytest.mark.parametrize("extra", ("", "init = 0", "init = 1", "default_algorithms = ALL"))
def test_an_engine_section_of_openssl_cnf_brings_the_engine(
    stage, openssl, authority, env, keys, directory, message, extra
):
    conf, signature = directory / "openssl.cnf", directory / "signature"
    lines = f"engine_id = immure\ndynamic_path = {stage.engine}\n{extra}"
    conf.write_text(ENGINE_CONF.format(lines=lines))
    own_env = env | {"OPENSSL_CONF": str(conf)}
    del own_env["OPENSSL_ENGINES"]
    sign = "dgst -sha256 -engine immure -keyform engine -sign p256 -out".split()
    openssl(*sign, signature, message, env=own_env)
    verify = ("dgst", "-sha256", "-verify", keys["p256"].public_key, "-signature", signature, message)
    assert "Verified OK" in authority.openssl(*verify).text


def test_settings_of_other_engines_are_refused_by_name(stage, openssl, env, directory):
    conf = directory / "openssl.cnf"
    lines = f"engine_id = immure\ndynamic_path = {stage.engine}\nMODULE_PATH = /usr/lib/hsm.so"
    conf.write_text(ENGINE_CONF.format(lines=lines))
    said = openssl("engine", "immure", env=env | {"OPENSSL_CONF": str(conf)}, status=None).text
    assert "invalid cmd name" in said and "name=MODULE_PATH" in said, said


@pytest.mark.slow  # curl does not start with AddressSanitizer's library in it
@by_each_type
@pytest.mark.parametrize("hosting", ["engine alone"], indirect=True)
def test_curl_presents_a_client_certificate(env, authority, immured, make_nginx, keys, key_type):
    server, client = keys["p384"], keys[key_type]
    lines = engine_lines(server) + (
        f"ssl_client_certificate {authority.certificate}; ssl_verify_client on;"
        "location /who { return 200 $ssl_client_s_dn; }"
    )
    nginx = make_nginx(immured.socket).configure((server.host, lines)).start()
    for version in ("1.2", "1.3"):
        who = curl(
            *(authority, nginx.port, server.host, f"--tlsv{version}", "--tls-max", version),
            *("--engine", "immure", "--key-type", "ENG", "--key", client.name),
            *("--cert", client.certificate), path="/who", env=env,
        )
        assert who == f"CN={client.host}"


@by_each_id
def test_threads_and_children_of_a_program_that_has_loaded_nothing_else_sign(
    host_program, env, keys, named
):
    for key_type in ("p256", "rsa2048", "ed25519"):
        run(host_program("engine"), named(keys[key_type]), 10, env=env)


# --- What fails, and in which words --------------------------------------------------------------


def pubout(openssl, name, **options):
    command = "pkey -engine immure -inform engine -pubout -in".split()
    return openssl(*command, name, **({"status": 1} | options)).text


@pytest.mark.parametrize("name", ("nobody", "pkcs11:object=nobody", "immure:nobody", "/nobody.pem"))
def test_a_key_that_is_not_there_is_named(openssl, name):
    said = pubout(openssl, name)
    assert "nobody" in said and "failed loading private key" in said, said


def test_without_the_provider_the_error_says_where_it_should_be(openssl, env, directory, stage):
    said = pubout(openssl, "p256", env=env | {"OPENSSL_MODULES": str(directory)})
    installed = f"/{stage.provider.relative_to(stage.root)}"
    assert f"cannot be loaded: is it installed as {installed}" in said, said
    assert f"{directory}/immure.so" in said, said


def test_without_immured_the_error_says_so(openssl, env):
    said = pubout(openssl, "p256", env=env | {"IMMURE_SOCKET": "/nowhere"})
    assert "immured unreachable" in said and "/nowhere" in said and "is it running?" in said, said


def test_a_key_in_a_file_is_not_taken_for_one_of_the_token(openssl, authority, directory, env):
    file, _ = authority.file_key("plain", "plain.immure.test")
    assert f"no key reference in {file}: immure key reference" in pubout(openssl, file)
    encrypted = directory / "encrypted.key"
    authority.openssl("pkey", "-in", file, "-aes128", "-passout", "pass:1", "-out", encrypted)
    # With a terminal of its own, on which it could ask for the pass phrase.
    ask = f"openssl pkey -engine immure -inform engine -pubout -in {encrypted}"
    said = run("script", "-qec", ask, "/dev/null", env=env, status=1, timeout=20).text
    assert "no key reference in" in said and "pass phrase" not in said, said


# --- nginx ---------------------------------------------------------------------------------------


@pytest.fixture
def served(immured, make_nginx, keys):
    """nginx with a server for each key, named in each way in turn."""
    ways = list(IDS.values())
    lines = {
        key.host: engine_lines(key, named=ways[i % len(ways)]) for i, key in enumerate(keys.values())
    }
    return make_nginx(immured.socket).configure(*lines.items()).start()


def test_nginx_serves_each_type_named_in_each_way(served, authority, keys):
    for key in keys.values():
        assert "served" in curl(authority, served.port, key.host)
    assert "error:" not in served.log(), served.log()


def test_nginx_needs_no_ssl_engine_line(own, authority):
    own.nginx.edit("ssl_engine immure;\n", "").test()
    own.nginx.reload()
    curl(authority, own.nginx.port, own.hosts[0])


def test_binary_upgrade_under_load_fails_no_handshake(own, authority):
    nginx = own.nginx
    with Load(authority, nginx.port, own.hosts) as load:
        old = nginx.start_new_master()
        assert end(old, signal.SIGQUIT), "the old master does not end"
        load.wait_for(20)
        load.check()


def test_with_the_module_signatures_are_asynchronous_and_without_it_they_block(
    make_slow, make_nginx, authority, keys, hosting, monkeypatch
):
    monkeypatch.setattr("harness.nginx.WORKERS", 1)
    slow, key = make_slow(300), keys["p256"]
    nginx = make_nginx(slow.socket).configure((key.host, engine_lines(key))).start()
    most = most_in_flight(slow, lambda: many_handshakes(authority, nginx.port, key.host, 6))
    assert most > 2 if hosting == "engine and module" else most == 1


def test_nginx_with_immured_away_takes_references_and_says_why_not_names(
    make_immured, make_nginx, keys
):
    key, socket = keys["p256"], make_immured().socket
    nginx = make_nginx(socket)
    said = nginx.configure((key.host, engine_lines(key))).test(status=1)
    assert f'"engine:immure:{key.name}": ENGINE_load_private_key() failed' in said, said
    assert "immured unreachable" in said and str(socket) in said and "is it running?" in said, said
    nginx.configure((key.host, engine_lines(key, named=IDS["reference"]))).test()


def test_a_failed_reload_leaves_nginx_serving(own, authority):
    own.nginx.edit("engine:immure:p256", "engine:immure:nobody")
    assert "nobody" in own.nginx.test(status=1)
    before, said = own.nginx.workers(), own.nginx.log().count("nobody")
    own.nginx.signal("SIGHUP")
    wait_until(lambda: own.nginx.log().count("nobody") > said, "the failed reload")
    curl(authority, own.nginx.port, own.hosts[0])
    assert own.nginx.workers() == before
