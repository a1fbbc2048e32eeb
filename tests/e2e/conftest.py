"""Fixtures of the end-to-end tests; harness/ has what they are made of."""

import os
import shutil
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from harness import results
from harness.faulty import faulty_modules, start_with
from harness.nginx import Nginx, certificate_lines, module_lines, no_module
from harness.pki import KEY_TYPES, Authority, make_key
from harness.process import run
from harness.stage import BUILD, Stage
from harness.token import GRANTS, Immured, SoftToken

HOSTS = Path(__file__).parent / "hosts"


def pytest_addoption(parser):
    parser.addoption("--tables", metavar="FILE", help="write the tables of what the tests found")


def pytest_configure(config):
    config.addinivalue_line("markers", "slow: left out of the run under sanitizers, as too slow or not possible")
    config.addinivalue_line("markers", "cell(titles, row, column): where its result is in the tables")


def pytest_collection_modifyitems(items):
    reason = None
    if os.geteuid() != 0:
        reason = "needs root: nginx's workers and immured run as users of their own"
    elif not (BUILD / "build.ninja").exists():
        raise pytest.UsageError(f"{BUILD} is not built; run make, or set IMMURE_BUILD")
    for item in items if reason else ():
        item.add_marker(pytest.mark.skip(reason=reason))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item):
    """With a failed test, shows the end of the log of each server that it used."""
    report = (yield).get_result()
    results.note(item, report)
    if report.failed:
        for name, fixture in getattr(item, "funcargs", {}).items():
            for part in fixture if isinstance(fixture, tuple) else (fixture,):
                if hasattr(part, "log"):
                    report.sections.append((f"log of {name}", part.log()[-6000:]))


def pytest_sessionfinish(session):
    if path := session.config.getoption("--tables"):
        with open(path, "w", encoding="utf-8") as file:
            results.write(file)


@pytest.fixture(scope="session")
def workspace():
    """A directory that every user can enter."""
    directory = Path(tempfile.mkdtemp(prefix="immure-e2e-"))
    directory.chmod(0o755)
    yield directory
    if "IMMURE_KEEP" not in os.environ:
        shutil.rmtree(directory)


@pytest.fixture
def directory(workspace):
    """A directory for one test."""
    path = Path(tempfile.mkdtemp(dir=workspace))
    path.chmod(0o755)
    return path


@pytest.fixture(scope="session")
def stage(workspace):
    return Stage(workspace)


@pytest.fixture(scope="session")
def authority(workspace):
    return Authority(workspace)


@pytest.fixture(scope="session")
def token(workspace):
    return SoftToken(workspace)


@pytest.fixture(scope="session")
def immured(stage, workspace, token):
    """The immured of tests that do it no harm."""
    daemon = Immured(stage, workspace / "immured", token.section() + GRANTS, token.env)
    yield daemon.start()
    daemon.stop()


@pytest.fixture(scope="session")
def keys(immured, authority, workspace):
    """A key of each type in the token, by its type's name."""
    directory = workspace / "keys"
    directory.mkdir()
    return {t: make_key(immured, authority, directory, t, t) for t in KEY_TYPES}


@pytest.fixture
def make_immured(stage, directory, token):
    """Makes an immured of the test's own; not started."""
    made = []

    def make(sections=None, env=None):
        sections = sections or token.section() + GRANTS
        daemon = Immured(stage, directory / f"d{len(made)}", sections, token.env | (env or {}))
        made.append(daemon)
        return daemon

    yield make
    for daemon in made:
        daemon.stop()
    token.mend()


@pytest.fixture
def make_slow(make_immured, token, stage):
    """Makes an immured whose token takes `delay_ms` for each signature, and starts it."""

    def make(delay_ms, *lines):
        section = token.section(stage.hsm) + "".join(f"{line}\n" for line in lines)
        return make_immured(section + GRANTS, {"IMMURE_HSM_DELAY_MS": str(delay_ms)}).start()

    return make


@pytest.fixture
def hanging(make_immured, token, stage, directory, keys):
    """An immured whose token signs when `module` is cleared, and no sooner."""
    (module,) = faulty_modules(stage, directory, ["one"])
    immured = start_with(make_immured, token, [module])
    module.set("hang")
    yield SimpleNamespace(immured=immured, module=module, log=immured.log)
    module.clear()  # or immured would not end


@pytest.fixture(scope="session")
def openssl_conf(stage, workspace, immured):
    """openssl.cnf with the provider, which talks to the shared immured."""
    return stage.write_openssl_conf(workspace / "openssl.cnf", immured.socket)


@pytest.fixture(scope="session", params=["by OPENSSL_CONF", "by module"])
def hosting(request, stage):
    """How nginx gets the provider: each test that starts one does so in both ways."""
    if request.param == "by module" and no_module(stage):
        pytest.skip(no_module(stage))
    return request.param


@pytest.fixture
def make_nginx(stage, directory, hosting):
    """Makes an nginx of the test's own that talks to `socket`; not configured, not started."""
    made = []

    def make(socket, timeout_ms=None):
        number = len(made)
        conf = stage.write_openssl_conf(
            directory / f"openssl{number}.cnf", socket, timeout_ms=timeout_ms
        )
        module = module_lines(stage, socket, timeout_ms) if hosting == "by module" else ""
        made.append(Nginx(stage, directory / f"nginx{number}", conf, module))
        return made[-1]

    yield make
    for nginx in made:
        nginx.stop()


@pytest.fixture(scope="session")
def web(stage, workspace, openssl_conf, keys, immured, hosting):
    """nginx with a server for each key."""
    module = module_lines(stage, immured.socket) if hosting == "by module" else ""
    directory = Path(tempfile.mkdtemp(dir=workspace, prefix="web-"))  # pytest may ask once more
    directory.chmod(0o755)
    nginx = Nginx(stage, directory, openssl_conf, module)
    nginx.configure(*((key.host, certificate_lines(key)) for key in keys.values()))
    yield nginx.start()
    nginx.stop()


@pytest.fixture
def make_own(make_immured, make_nginx, keys):
    """An immured and an nginx that a test may kill; nginx serves the P-256 and RSA-2048 keys."""

    def make(timeout_ms=None):
        immured = make_immured().start()
        nginx = make_nginx(immured.socket, timeout_ms)
        served = [keys["p256"], keys["rsa2048"]]
        nginx.configure(*((key.host, certificate_lines(key)) for key in served)).start()
        return SimpleNamespace(
            immured=immured, nginx=nginx, hosts=[key.host for key in served],
            log=lambda: f"{immured.log()}\n--- nginx\n{nginx.log()}",
        )

    return make


@pytest.fixture
def own(make_own):
    return make_own()


@pytest.fixture(scope="session")
def host_program(stage, workspace):
    """Compiles hosts/NAME.c, a small program that uses the provider."""
    built = {}

    def build(name):
        if name not in built:
            built[name] = workspace / name
            run(
                *"gcc -std=gnu11 -O1 -g -Wall -Wextra -Werror -pthread -o".split(), built[name],
                *(HOSTS / f"{name}.c", "-lssl", "-lcrypto"),
            )
        return built[name]

    return build


@pytest.fixture
def openssl(stage, openssl_conf):
    """openssl with the provider."""

    def call(*arguments, conf=openssl_conf, **options):
        return run("openssl", *arguments, env=stage.host_env(conf), **options)

    return call


@pytest.fixture
def sign(stage, openssl_conf, authority, directory):
    """Signs with a key by way of openssl's command and the provider, and has openssl verify it."""

    def sign_and_verify(immured, key):
        message, signature = directory / "message", directory / "signature"
        message.write_text("signed by a token")
        env = stage.host_env(openssl_conf)
        # With time for an immured that is just starting, on a busy machine.
        conf = stage.write_openssl_conf(directory / "sign.cnf", immured.socket, timeout_ms=20000)
        env["OPENSSL_CONF"] = str(conf)
        run("openssl", "dgst", "-sha256", "-sign", key.reference, "-out", signature, message, env=env)
        verify = ("dgst", "-sha256", "-verify", key.public_key, "-signature", signature, message)
        assert "Verified OK" in authority.openssl(*verify).text

    return sign_and_verify
