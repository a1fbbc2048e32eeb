"""What is under test: an installation of one build directory, and how its programs are run."""

import json
import os
import re
import shutil
from pathlib import Path

from .process import run

REPOSITORY = Path(__file__).resolve().parents[3]
BUILD = Path(os.environ.get("IMMURE_BUILD", REPOSITORY / "build")).resolve()
# A directory with another nginx than Debian's, such as tools/build-nginx-asan makes.
OTHER_NGINX = os.environ.get("IMMURE_NGINX")
# Another immured than the build's, such as one with ThreadSanitizer.
OTHER_IMMURED = os.environ.get("IMMURE_IMMURED")

# immured runs as a user of its own, which needs nothing but its name.
DAEMON_USER = "daemon"
# Vendor libraries leak what they like at exit.
LEAK_SUPPRESSIONS = "leak:libsofthsm2\nleak:pkcs11-spy\nleak:libp11-kit\n"


def is_sanitized():
    options = json.loads((BUILD / "meson-info/intro-buildoptions.json").read_text())
    value = next(o["value"] for o in options if o["name"] == "b_sanitize")
    return value not in ("none", [])  # meson 1.8 has made it a list


def root_is_mounted():
    """False in a chroot, where mounts cannot be made private."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return any(line.split()[4] == "/" for line in lines)


def library(name):
    return str(Path(run("gcc", f"-print-file-name={name}").stdout.decode().strip()).resolve())


def libcrypto(file):
    """The name of the libcrypto that a program or library is linked to."""
    return re.search(r"libcrypto\.so\.\d+", run("ldd", file).text)[0]


class Stage:
    """The installation under `root`."""

    def __init__(self, directory):
        self.root = directory / "install"
        self.sanitized = is_sanitized()
        run("meson", "install", "-C", BUILD, "--no-rebuild", "--destdir", self.root)
        self.immured = Path(OTHER_IMMURED) if OTHER_IMMURED else self.root / "usr/sbin/immured"
        self.immure = self.root / "usr/bin/immure"
        self.provider = next(self.root.glob("usr/lib/**/ossl-modules/immure.so"))
        self.engine = next(self.root.glob("usr/lib/**/engines-3/immure.so"), None)
        modules = Path(OTHER_NGINX) if OTHER_NGINX else self.root / "usr/lib/nginx"
        self.nginx_module = modules / "modules/ngx_immure_module.so"
        self.hsm = Path(shutil.copy(BUILD / "tests/fault/hsm.so", directory))
        self.signatures = BUILD / "bench/signatures"
        self.checks = BUILD / "bench/checks"
        self.handshakes = BUILD / "bench/handshakes"
        self.token_keys = BUILD / "bench/token_keys"
        suppressions = directory / "leaks.txt"
        suppressions.write_text(LEAK_SUPPRESSIONS)
        self.own_env = os.environ | {
            # The slow unwinder sees through libcrypto, to the library whose leak it is.
            "ASAN_OPTIONS": "detect_leaks=1:fast_unwind_on_malloc=0",
            "LSAN_OPTIONS": f"suppressions={suppressions}:print_suppressions=0",
            "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1",
        }

    def host_env(self, openssl_conf):
        """The environment of a program that loads the provider."""
        env = os.environ | {"OPENSSL_CONF": str(openssl_conf)}
        if self.sanitized:  # the program is not, and leaks by nature
            env["LD_PRELOAD"] = f"{library('libasan.so')}:{library('libubsan.so')}"
            env["ASAN_OPTIONS"] = "detect_leaks=0"
            env["UBSAN_OPTIONS"] = "halt_on_error=1:print_stacktrace=1"
        return env

    def other_libcrypto(self, program):
        """Why there is none of what takes the same libcrypto in the program and in Immure, or ""."""
        theirs, ours = libcrypto(program), libcrypto(self.provider)
        return "" if theirs == ours else f"{program} has {theirs}, and Immure {ours}"

    def engine_env(self, socket):
        """What the environment of a program with the engine has besides: its files are not where
        OpenSSL looks for them, and immured is not where the provider does."""
        return {
            "OPENSSL_ENGINES": str(self.engine.parent),
            "OPENSSL_MODULES": str(self.provider.parent),
            "IMMURE_SOCKET": str(socket),
        }

    def write_openssl_conf(self, path, socket, order=("default", "immure"), timeout_ms=None):
        """An openssl.cnf that activates both providers in this order."""
        timeout = f"timeout = {timeout_ms}\n" if timeout_ms else ""
        sections = {
            "default": "[default_provider]\nactivate = 1\n",
            "immure": f"[immure_provider]\nmodule = {self.provider}\nsocket = {socket}\n{timeout}activate = 1\n",
        }
        path.write_text(
            # Without "extensions", OpenSSL 4's x509 takes all of this section for extensions.
            "openssl_conf = init\nextensions = none\n[none]\n[init]\nproviders = providers\n[providers]\n"
            + "".join(f"{name} = {name}_provider\n" for name in order)
            + "".join(sections[name] for name in order)
            + "[req]\ndistinguished_name = dn\n[dn]\n"
        )
        return path
