"""The table of tokens: what each needs, what it can do, how it starts, and how it dies.

None needs hardware. Each is made in a directory of its own, for immured's user; what one changes
outside of it is in a mount namespace. doc/tokens.md says what they stand for.
"""

import os
import re
import shutil
import signal
import socket
import subprocess
import sysconfig
from pathlib import Path

from .pki import KEY_TYPES, ML_DSA
from .process import free_port, is_listening, is_running, run, wait_until
from .stage import DAEMON_USER, root_is_mounted
from .token import PIN, SOFTHSM, SoftToken, as_daemon, write_private

LIBRARIES = Path("/usr/lib") / sysconfig.get_config_var("MULTIARCH")
MODULES = LIBRARIES / "pkcs11"
SPY = MODULES / "pkcs11-spy.so"
RSA = ("rsa2048", "rsa3072", "rsa4096")
NIST = ("p256", "p384", "p521")


def version_of(package):
    """Of an installed Debian package, as numbers."""
    text = run("dpkg-query", "--show", "--showformat=${Version}", package).stdout.decode()
    return tuple(map(int, re.match(r"(?:\d+:)?([\d.]+)", text)[1].split(".")))


def free_pair():
    """A port that is free as the next one is, and that no client of another test has had."""
    for port in range(20000 + os.getpid() % 5000 * 2, 32000, 2):
        with socket.socket() as one, socket.socket() as other:
            try:
                one.bind(("127.0.0.1", port))
                other.bind(("127.0.0.1", port + 1))
                return port
            except OSError:
                continue
    raise AssertionError("no two ports are free")


class Token:
    """A token in `directory`; `start()` makes it."""

    name = None
    needs = {}  # files, and the Debian packages that have them
    module = None
    uri = "pkcs11:token=e2e"
    pin = PIN
    lines = ""  # what it wants in its section of immure.conf besides
    imports = True  # keys from files
    server = None  # the process without which the module has no token
    outlives_server = False  # for who has it open already
    has_namespace = False  # of mounts, in which it changes what is outside of its directory

    @classmethod
    def missing(cls):
        """The packages, or what else, that are not here, in one text."""
        missing = [package for file, package in cls.needs.items() if not Path(file).exists()]
        if cls.has_namespace and not root_is_mounted():
            missing.append("a mounted / for a namespace of mounts")
        return " ".join(missing)

    def __init__(self, directory):
        self.directory = directory
        directory.mkdir()
        shutil.chown(directory, DAEMON_USER, DAEMON_USER)
        self.env = {}
        self.pin_file = write_private(directory / "user.pin", self.pin + "\n")

    @property
    def keys(self):
        """The types of keys that it can make."""
        return KEY_TYPES

    def section(self, module=None):
        return (
            f"[token soft]\nmodule = {module or self.module}\nuri = {self.uri}\n"
            f"pin-file = {self.pin_file}\n{self.lines}\n"
        )

    def start(self):
        pass

    def stop(self):
        if self.server:
            self.kill()

    def as_owner(self, *command):
        """The command, run as whoever has the token."""
        return as_daemon(*command)

    def spawn(self, *command):
        """A process in a session of its own; what it prints is in the directory."""
        with open(self.directory / "server.log", "ab") as log:
            return subprocess.Popen(
                [str(word) for word in self.as_owner(*command)],
                env=os.environ | self.env, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
            )

    def kill(self):
        """SIGKILL to the server and what it has started."""
        os.killpg(self.server.pid, signal.SIGKILL)
        self.server.wait()
        self.server = None

    def start_server(self):
        """Also after kill()."""

    def tool(self, *arguments):
        """pkcs11-tool with this token."""
        command = self.as_owner("pkcs11-tool", "--module", self.module, *arguments)
        run(*command, env=os.environ | self.env)

    def log(self):
        path = self.directory / "server.log"
        return path.read_text(errors="replace") if path.exists() else ""


class SoftHsm(Token):
    name = "softhsm"
    needs = {SOFTHSM: "softhsm2"}
    module = SOFTHSM

    def start(self):
        self.soft = SoftToken(self.directory)
        self.env |= self.soft.env


class Nss(Token):
    """Mozilla's softoken, in the process that loads it."""

    name = "nss"
    needs = {LIBRARIES / "libsoftokn3.so": "libnss3", "/usr/bin/certutil": "libnss3-tools"}
    module = LIBRARIES / "libsoftokn3.so"
    uri = "pkcs11:token=NSS%20Certificate%20DB"

    def __init__(self, directory):
        super().__init__(directory)
        self.lines = f"library-parameters = configdir='sql:{directory}' certPrefix='' keyPrefix=''"

    @property
    def keys(self):
        version = version_of("libnss3")
        newest = (*KEY_TYPES, *ML_DSA) if version >= (3, 132) else KEY_TYPES
        return newest if version >= (3, 110) else (*NIST, *RSA)

    def start(self):
        make = ("certutil", "-N", "-d", f"sql:{self.directory}", "-f", self.pin_file)
        run(*self.as_owner(*make))


class P11Kit(SoftHsm):
    """SoftHSM behind p11-kit's remoting; its server forks for each client."""

    name = "p11-kit"
    needs = SoftHsm.needs | {
        "/usr/libexec/p11-kit/p11-kit-server": "p11-kit",
        MODULES / "p11-kit-client.so": "p11-kit-modules",
    }
    module = MODULES / "p11-kit-client.so"
    exported = SoftHsm.uri  # the tokens that clients see

    @property
    def keys(self):
        return (*NIST, *RSA)

    def start(self):
        super().start()
        self.socket = self.directory / "socket"
        self.env["P11_KIT_SERVER_ADDRESS"] = f"unix:path={self.socket}"
        self.start_server()

    def start_server(self):
        self.socket.unlink(missing_ok=True)
        self.server = self.spawn(
            *("p11-kit", "server", "--foreground", "--provider", SOFTHSM),
            *("--name", self.socket, self.exported),
        )
        wait_until(self.socket.exists, "p11-kit's socket")


class Pkcs11Proxy(SoftHsm):
    """SoftHSM behind pkcs11-proxy, as one in the network.

    Its client keeps 8 connections (MAX_CALL_STATE_POOL in gck-rpc-module.c). It closes one that
    a ninth call at a time has opened, and the sessions that were opened over it are gone.
    """

    name = "pkcs11-proxy"
    lines = "max-sessions = 8"
    needs = SoftHsm.needs | {
        "/usr/lib/libpkcs11-proxy.so": "libpkcs11-proxy0",
        "/usr/bin/pkcs11-daemon": "pkcs11-daemon",
    }
    module = "/usr/lib/libpkcs11-proxy.so"

    @property
    def keys(self):
        return (*NIST, *RSA)

    def start(self):
        super().start()
        self.port = free_port()
        address = f"tcp://127.0.0.1:{self.port}"
        self.env |= {"PKCS11_DAEMON_SOCKET": address, "PKCS11_PROXY_SOCKET": address}
        self.start_server()

    def start_server(self):
        self.server = self.spawn("pkcs11-daemon", SOFTHSM)
        wait_until(lambda: is_listening(self.port), "pkcs11-daemon")


class Tpm(Token):
    """tpm2-pkcs11 with a software TPM, and tpm2-abrmd in place of the kernel's resource manager."""

    name = "tpm2-pkcs11"
    needs = {
        MODULES / "libtpm2_pkcs11.so": "libtpm2-pkcs11-1",
        "/usr/bin/swtpm": "swtpm",
        "/usr/sbin/tpm2-abrmd": "tpm2-abrmd",
        LIBRARIES / "libtss2-tcti-tabrmd.so.0": "libtss2-tcti-tabrmd0",
        "/usr/bin/dbus-daemon": "dbus-daemon",
        "/usr/bin/pkcs11-tool": "opensc",
    }
    module = MODULES / "libtpm2_pkcs11.so"
    imports = False  # C_CreateObject is for public keys and data
    bus = manager = None

    @property
    def keys(self):
        return ("p256", "p384", "rsa2048", "rsa3072")

    def start(self):
        self.port = free_pair()
        bus = self.directory / "bus"
        self.env |= {
            "DBUS_SESSION_BUS_ADDRESS": f"unix:path={bus}",
            "TPM2_PKCS11_TCTI": "tabrmd:bus_type=session",
            "TPM2_PKCS11_STORE": str(self.directory),
            "TPM2_PKCS11_BACKEND": "esysdb",
            "TSS2_LOG": "all+NONE",
        }
        address = self.env["DBUS_SESSION_BUS_ADDRESS"]
        self.bus = self.spawn("dbus-daemon", "--session", "--nofork", "--address", address)
        wait_until(bus.exists, "the D-Bus socket")
        self.start_server()
        officer = ("--so-pin", "officer")
        self.tool("--slot-index", "0", "--init-token", "--label", "e2e", *officer)
        self.tool("--token-label", "e2e", "--init-pin", "--pin", self.pin, *officer)

    def start_server(self):
        self.server = self.spawn(
            *("swtpm", "socket", "--tpm2", "--tpmstate", f"dir={self.directory}"),
            *("--server", f"type=tcp,port={self.port},bindaddr=127.0.0.1"),
            *("--ctrl", f"type=tcp,port={self.port + 1},bindaddr=127.0.0.1"),
            *("--flags", "not-need-init,startup-clear"),
        )
        wait_until(lambda: is_listening(self.port), "swtpm")
        tcti = f"swtpm:host=127.0.0.1,port={self.port}"
        self.manager = self.spawn("tpm2-abrmd", "--session", f"--tcti={tcti}")
        named = ("gdbus", "wait", "--session", "--timeout", "10", "com.intel.tss2.Tabrmd")
        run(*self.as_owner(*named), env=os.environ | self.env)

    def kill(self):
        super().kill()
        if self.manager:
            os.killpg(self.manager.pid, signal.SIGKILL)
            self.manager.wait()

    def stop(self):
        super().stop()
        if self.bus:
            self.bus.kill()
            self.bus.wait()


# In a mount namespace: state, locks and group of its own, and no socket of another pkcsslotd.
OPENCRYPTOKI = """set -e
cp -a /var/lib/opencryptoki "$1/state"
find "$1/state" -type f -delete
chgrp -R pkcs11 "$1/state"
chmod -R g+rwX "$1/state"
mount --bind "$1/state" /var/lib/opencryptoki
mount -t tmpfs tmpfs /run
mount -t tmpfs -o mode=1777 tmpfs /dev/shm
mkdir /run/lock
install -d -m 770 -g pkcs11 /run/opencryptoki /run/lock/opencryptoki /run/lock/opencryptoki/swtok
sed "s/^\\(pkcs11:.*:\\)[^:]*$/\\1root,$2/" /etc/group >"$1/group"
mount --bind "$1/group" /etc/group
touch "$1/ready"
exec sleep infinity
"""


class OpenCryptoki(Token):
    """Its software token. Processes that use it share memory, and have a daemon, pkcsslotd."""

    name = "opencryptoki"
    needs = {
        MODULES / "libopencryptoki.so": "libopencryptoki0",
        "/usr/sbin/pkcsslotd": "opencryptoki",
        "/usr/bin/pkcs11-tool": "opensc",
    }
    module = MODULES / "libopencryptoki.so"
    has_namespace = True
    pin = "1234567"  # 4 to 8 characters
    outlives_server = True

    @property
    def keys(self):
        version = version_of("opencryptoki")
        newest = (*KEY_TYPES, *ML_DSA)
        return RSA if version < (3, 9) else (*NIST, *RSA) if version < (3, 27) else newest

    def start(self):
        self.namespace = subprocess.Popen(
            ["unshare", "--mount", "--ipc", "--propagation", "private"]
            + ["sh", "-c", OPENCRYPTOKI, "sh", str(self.directory), DAEMON_USER],
        )
        wait_until((self.directory / "ready").exists, "openCryptoki's namespace")
        self.start_server()
        self.tool("--init-token", "--label", "e2e", "--so-pin", "87654321")
        officer = ("--login", "--login-type", "so", "--so-pin")
        self.tool(*officer, "87654321", "--change-pin", "--new-pin", "76543210")
        self.tool(*officer, "76543210", "--init-pin", "--new-pin", "12345")
        self.tool("--login", "--pin", "12345", "--change-pin", "--new-pin", self.pin)

    def tool(self, *arguments):
        super().tool("--slot", "3", *arguments)

    def enter(self, *command):
        return ("nsenter", "--mount", "--ipc", "--root", "--target", str(self.namespace.pid), *command)

    def as_owner(self, *command):
        as_user = (f"--reuid={DAEMON_USER}", f"--regid={DAEMON_USER}", "--init-groups")
        return self.enter("setpriv", *as_user, *command)

    def start_server(self):
        run(*self.enter("pkcsslotd"))
        read = self.enter("sh", "-c", "cat /run/pkcsslotd.pid /run/opencryptoki/pkcsslotd.pid")
        pid = wait_until(lambda: run(*read, status=None).stdout.strip(), "pkcsslotd's number")
        self.server = int(pid)

    def kill(self):
        os.kill(self.server, signal.SIGKILL)
        wait_until(lambda: not is_running(self.server), "the end of pkcsslotd")
        self.server = None

    def stop(self):
        super().stop()
        self.namespace.kill()
        self.namespace.wait()


TOKENS = (SoftHsm, P11Kit, Pkcs11Proxy, Nss, OpenCryptoki, Tpm)
