"""What happens to a running installation in a soak: a table, and what each row does."""

import shutil
from dataclasses import dataclass

from .pki import Key
from .process import wait_until
from .token import DAEMON_USER

# Faults of one of the two tokens, while the other is well. Commands of tests/fault/faults.h.
OF_ONE_TOKEN = (
    "hang",
    "hang C_SignInit",
    "hang C_GetAttributeValue; renumber",
    "drop; hang C_OpenSession",
    "logout; hang C_Login",
    "vanish; hang C_Initialize",
    "crash",
    "drop; crash C_OpenSession",
    "logout; crash C_Finalize",
    "delay 0 40",
    "delay 150 100",
    "delay 20; serial",
    "fail 0x05",  # CKR_GENERAL_ERROR
    "fail 0x06",  # CKR_FUNCTION_FAILED
    "fail 0x06 20%",
    "fail 0x30",  # CKR_DEVICE_ERROR
    "fail 0x30 x3",
    "fail 0x31",  # CKR_DEVICE_MEMORY
    "fail 0x60 C_SignInit",  # CKR_KEY_HANDLE_INVALID
    "fail 0xb3",  # CKR_SESSION_HANDLE_INVALID
    "fail 0x101",  # CKR_USER_NOT_LOGGED_IN
    "fail 0x80000001",  # a vendor's own
    "logout; fail 0x30 C_Login",
    "drop",
    "drop; sessions 0",
    "drop; sessions 1",
    "renumber; fail 0x06 C_FindObjectsInit",
    "logout",
    "vanish",
    "renumber",
    "stuck 0x30",
    "profile tpm",
    "profile nshield-card",
    "profile yubihsm2",
)
# The same for both tokens at once, so that none is left.
OF_ALL_TOKENS = ("hang", "fail 0x30", "vanish", "drop; sessions 0", "stuck 0x30; fail 0x30 C_Initialize")


@dataclass(frozen=True)
class Fault:
    name: str
    begin: object  # what to do, with the soak and the modules that it is about
    end: object
    one_left: bool = True  # a token can answer all the time
    tokens: int = 1  # how many it is about
    hold: tuple = (0.5, 2.0)  # how many seconds it lasts, from, to


def nothing(soak, modules):
    pass


def set_commands(commands):
    def begin(soak, modules):
        for module in modules:
            module.set(*commands.split("; "))

    return begin


def clear_commands(soak, modules):
    for module in modules:
        module.clear()


def sign_wrongly(soak, modules):
    set_commands("wrong")(soak, modules)
    # Of RSA keys each signature is checked; the token is out of service by then.
    wait_until(lambda: "made a wrong signature" in soak.immured.log()[soak.log_seen:], "notice of it")


def have_it_repaired(soak, modules):
    clear_commands(soak, modules)
    reload_immured(soak, modules)


def kill_worker(soak, modules):
    for worker in soak.immured.workers():
        soak.nginx.signal("SIGKILL", worker)


def reload_immured(soak, modules):
    before = set(soak.immured.workers())
    soak.immured.reload()
    wait_until(lambda: set(soak.immured.workers()) - before, "immured's new worker")
    wait_until(lambda: len(soak.immured.workers()) == 1, "the end of immured's old worker", 15)


def stop_immured(soak, modules):
    soak.immured.stop()


def start_immured(soak, modules):
    soak.immured.start()


def kill_immured(soak, modules):
    soak.immured.kill()


def upgrade_immured(soak, modules):
    """The new binary is there before the old process ends, as with a package's upgrade."""
    binary = soak.stage.immured
    new = binary.with_suffix(".new")
    shutil.copy(binary, new)
    new.rename(binary)
    soak.immured.stop()
    soak.immured.start()


def reload_nginx(soak, modules):
    soak.nginx.reload()
    soak.nginx.wait_for_old_workers()


def rotate_key(soak, modules):
    """A new key in both tokens, its reference and certificate in the place of the old ones."""
    soak.rotations += 1
    old = soak.rotated_key
    new = make_shared_key(soak, f"rotated-{soak.rotations}", soak.rotated_host)
    old.reference.write_bytes(new.reference.read_bytes())
    old.certificate.write_bytes(new.certificate.read_bytes())
    reload_nginx(soak, modules)
    soak.immured.cli("key", "destroy", old.name, "--yes")
    soak.rotated_key = Key(new.name, old.reference, old.certificate, None)


def make_shared_key(soak, name, host, *algorithm):
    """A key that both tokens have."""
    file_key, certificate = soak.authority.file_key(name, host, *algorithm)
    for token in ("one", "two"):
        copy = shutil.copy(file_key, soak.directory / "import.key")
        shutil.chown(copy, DAEMON_USER)
        soak.immured.cli("key", "import", name, copy, "--token", token, "--keep")
    reference = soak.directory / f"{name}.pem"
    reference.write_bytes(soak.immured.cli("key", "reference", name).stdout)
    return Key(name, reference, certificate, None)


FAULTS = (
    *(Fault(commands, set_commands(commands), clear_commands) for commands in OF_ONE_TOKEN),
    Fault("wrong", sign_wrongly, have_it_repaired),
    *(
        Fault(f"all: {commands}", set_commands(commands), clear_commands, one_left=False, tokens=2)
        for commands in OF_ALL_TOKENS
    ),
    Fault("both: renumber", set_commands("renumber"), clear_commands, tokens=2),
    *(
        Fault(name, begin, end, tokens=0, hold=(0, 0.3))
        for name, begin, end in (
            ("SIGKILL of immured's worker", kill_worker, nothing),
            ("SIGHUP to immured", reload_immured, nothing),
            ("restart of immured", stop_immured, start_immured),
            ("upgrade of immured", upgrade_immured, nothing),
            ("SIGKILL of all of immured", kill_immured, start_immured),
            ("reload of nginx", reload_nginx, nothing),
            ("rotation of a key", rotate_key, nothing),
        )
    ),
)
