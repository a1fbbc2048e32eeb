"""immure, the operator's command line, on two SoftHSM tokens."""

import json
import os
import pty
import re
import select
import shutil
import signal
import socket
import threading
import time
from contextlib import contextmanager

import pytest
from harness import wire
from harness.pki import KEY_TYPES
from harness.process import run, wait_until
from harness.stage import DAEMON_USER, REPOSITORY
from harness.token import GRANTS, PIN, SOFTHSM, Immured, SoftToken, as_daemon, as_user, write_private

COMMANDS = {
    "token list": "immure-token.1",
    "key generate": "immure-key.1",
    "key list": "immure-key.1",
    "key show": "immure-key.1",
    "key import": "immure-key.1",
    "key reference": "immure-key.1",
    "key destroy": "immure-key.1",
    "csr": "immure-csr.1",
    "status": "immure-status.1",
}
TYPE_TEXTS = {
    "p256": "EC P-256", "p384": "EC P-384", "p521": "EC P-521", "rsa2048": "RSA 2048",
    "rsa3072": "RSA 3072", "rsa4096": "RSA 4096", "ed25519": "Ed25519",
}
GENPKEY = {
    "p256": "-algorithm EC -pkeyopt ec_paramgen_curve:P-256",
    "p384": "-algorithm EC -pkeyopt ec_paramgen_curve:P-384",
    "p521": "-algorithm EC -pkeyopt ec_paramgen_curve:P-521",
    "rsa2048": "-algorithm RSA -pkeyopt rsa_keygen_bits:2048",
    "rsa3072": "-algorithm RSA -pkeyopt rsa_keygen_bits:3072",
    "rsa4096": "-algorithm RSA -pkeyopt rsa_keygen_bits:4096",
    "ed25519": "-algorithm ed25519",
}


class Operator:
    """immure with a configuration of two tokens, "prod" and "backup", as their owner."""

    def __init__(self, stage, directory):
        self.stage = stage
        self.directory = directory
        shutil.chown(directory, DAEMON_USER, DAEMON_USER)
        self.prod = SoftToken(directory, "prod")
        self.prod.add("backup")
        self.conf = directory / "immure.conf"
        self.socket = directory / "immure.sock"
        self.env = stage.own_env | self.prod.env | {"IMMURE_CONF": str(self.conf)}
        self.env.pop("IMMURE_SOCKET", None)
        self.configure("prod", "backup")

    def section(self, name, label=None, pin_file=None, module=SOFTHSM):
        pin = f"pin-file = {pin_file or self.prod.pin_file}\n" if pin_file != "" else ""
        return (
            f"[token {name}]\nmodule = {module}\nuri = pkcs11:token={label or name}\n{pin}\n"
        )

    def configure(self, *tokens):
        self.write_conf("".join(self.section(name) for name in tokens))

    def write_conf(self, sections):
        self.conf.write_text(f"[immured]\nsocket = {self.socket}\n\n{sections}")

    def command(self, *arguments):
        return as_daemon(self.stage.immure, *arguments)

    def __call__(self, *arguments, status=0, env=None):
        """Runs immure without a terminal; `out` and `err` are its texts."""
        result = run(
            "setsid", "--wait", *self.command(*arguments), env=self.env | (env or {}),
            status=status, timeout=120,
        )
        result.out, result.err = result.stdout.decode(), result.stderr.decode()
        return result

    def json(self, *arguments, status=0):
        result = self(*arguments, "--json", status=status)
        return json.loads(result.out)

    def pkcs11_tool(self, *arguments, token="prod"):
        """OpenSC's tool on the same token: what it prints."""
        tool = as_daemon("pkcs11-tool", "--module", SOFTHSM, "--token-label", token)
        result = run(*tool, "--login", "--pin", PIN, *arguments, env=os.environ | self.prod.env)
        return result.stdout.decode()

    def names(self):
        return [key["name"] for key in self.json("key", "list")["keys"]]

    def on_terminal(self, arguments, answers, signal_at=None):
        """
        Runs it on a terminal of its own: `answers` are pairs of a prompt's end and what is typed
        then. Returns the exit status (as of waitpid) and all that was shown.
        """
        pid, terminal = pty.fork()
        if pid == 0:
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # ignored in a shell's background jobs
            command = [str(word) for word in self.command(*arguments)]
            os.execvpe(command[0], command, self.env)
        shown, rest = "", list(answers)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            ready, _, _ = select.select([terminal], [], [], 0.1)
            try:
                data = os.read(terminal, 4096).decode(errors="replace") if ready else ""
            except OSError:  # the other end is closed
                break
            shown += data
            if signal_at and signal_at in shown:
                os.write(terminal, b"\x03")
                signal_at = None
            if rest and shown.rstrip().endswith(rest[0][0]):
                os.write(terminal, (rest.pop(0)[1] + "\n").encode())
        else:
            os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        os.close(terminal)
        assert not rest, f"not asked for {rest}: {shown}"
        return status, shown


@pytest.fixture
def operator(stage, directory):
    return Operator(stage, directory)


@pytest.fixture(scope="module")
def shared(stage, workspace):
    """For tests that only add keys of names of their own, or look."""
    directory = workspace / "cli"
    directory.mkdir()
    directory.chmod(0o755)
    return Operator(stage, directory)


@pytest.fixture(scope="module")
def file_keys(authority, shared):
    """A private key of each type in a PEM file that the operator can read."""
    files = {}
    for name in KEY_TYPES:
        path = shared.directory / f"{name}.key"
        authority.openssl("genpkey", *GENPKEY[name].split(), "-out", path)
        shutil.chown(path, DAEMON_USER, DAEMON_USER)
        files[name] = path
    return files


def copy_of(path, operator):
    copy = operator.directory / f"copy-{path.name}"
    shutil.copy(path, copy)
    shutil.chown(copy, DAEMON_USER, DAEMON_USER)
    return copy


def objects(operator, label, token="prod"):
    """pkcs11-tool's words on the objects of that label, an independent look: kind -> text."""
    found = {}
    for text in re.split(r"\n(?=\S)", operator.pkcs11_tool("--list-objects", token=token)):
        if re.search(rf"label:\s+{re.escape(label)}$", text, re.M):
            found[text.split(" Object")[0]] = text
    return found


# --- Keys ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("key_type", KEY_TYPES)
def test_a_generated_key_signs_and_cannot_leave_the_token(shared, authority, key_type):
    name = f"made-{key_type}"
    made = shared.json("key", "generate", name, "--type", key_type, "--token", "prod")
    assert (made["name"], made["type"], made["token"]) == (name, TYPE_TEXTS[key_type], "prod")
    assert made["verdict"] == "in-token"

    seen = objects(shared, name)
    assert sorted(seen) == ["Private Key", "Public Key"]
    private = seen["Private Key"]
    assert re.search(r"Usage:\s+sign$", private, re.M)
    assert re.search(r"Access:\s+sensitive, always sensitive, never extract(i)?able, local", private)
    assert re.search(r"Usage:\s+verify$", seen["Public Key"], re.M)
    ids = [re.search(r"ID:\s+([0-9a-f:]+)$", text, re.M)[1].replace(":", "") for text in seen.values()]
    assert ids[0] == ids[1] and len(ids[0]) == 32


@pytest.mark.parametrize("key_type", KEY_TYPES)
def test_a_request_is_verified_by_openssl_and_has_the_names_asked_for(shared, authority, key_type):
    name, csr = f"csr-{key_type}", shared.directory / f"{key_type}.csr"
    made = shared.json("key", "generate", name, "--type", key_type, "--token", "backup")
    shared(
        "csr", name, "--subject", "/C=DE/O=Example \\/ Söhne/CN=www.example.com",
        "--san", "www.example.com,10.0.0.1", "--san", "2001:db8::1", "-o", csr,
    )
    text = authority.openssl(
        *("req", "-in", csr, "-verify", "-noout", "-text", "-nameopt", "utf8,sep_comma_plus,sname")
    ).text
    assert "self-signature verify OK" in text
    assert "Subject: C=DE,O=Example / Söhne,CN=www.example.com" in text
    assert (
        "DNS:www.example.com, IP Address:10.0.0.1, IP Address:2001:DB8:0:0:0:0:0:1" in text
    )
    public = authority.openssl("req", "-in", csr, "-noout", "-pubkey").stdout.decode()
    shown = shared.json("key", "show", name)
    assert shown["public_key"] == public and shown["key_id"] == made["key_id"]


def test_both_forms_of_a_subject_give_the_same_name(shared, authority):
    shared("key", "generate", "subject", "--type", "p256", "--token", "prod")
    ders = []
    for subject in ("/C=DE/O=Example, Inc/CN=www", "CN=www, O=Example\\, Inc,C=DE"):
        pem = shared("csr", "subject", "--subject", subject).stdout
        show = ("req", "-noout", "-subject", "-nameopt", "RFC2253")
        ders.append(authority.openssl(*show, input=pem).stdout)
    assert ders[0] == ders[1]
    assert b"CN=www,O=Example\\, Inc,C=DE" in ders[0]


def test_without_a_subject_the_names_are_critical(shared, authority):
    shared("key", "generate", "nosubject", "--type", "p256", "--token", "prod")
    request = shared.json("csr", "nosubject", "--san", "a.example,email:a@b.example,URI:https://c.example/")
    assert request["name"] == "nosubject" and request["file"] is None
    text = authority.openssl("req", "-noout", "-text", "-verify", input=request["csr"]).text
    assert "verify OK" in text
    assert "X509v3 Subject Alternative Name: critical" in text
    assert "DNS:a.example, email:a@b.example, URI:https://c.example/" in text


@pytest.mark.parametrize(
    "arguments, complaint",
    [
        (["--subject", "CN"], "TYPE=VALUE"),
        (["--subject", "/CN="], "empty"),
        (["--subject", "/NOSUCH=x"], "NOSUCH"),
        (["--subject", "/C=Germany"], "C=Germany"),
        (["--subject", "/CN=a+O=b"], "+"),
        (["--san", "a b.example"], "blank"),
        (["--san", "bücher.example"], "xn--"),
        (["--san", "a..example"], "DNS name"),
        (["--san", "IP:10.0.0"], "IP address"),
        (["--san", "a.example,,b.example"], "empty"),
        ([], "--san"),
    ],
)
def test_a_bad_name_for_a_request_is_bad_usage(shared, arguments, complaint):
    result = shared("csr", "any", *arguments, status=2)
    assert complaint in result.err and result.out == ""


@pytest.mark.parametrize(
    "command, faults, status",
    [
        ("generate", "fail 0x06 C_GenerateKeyPair", 1),
        ("import", "fail 0x06 C_GenerateKeyPair", 0),  # then without wrapping
        ("import", "fail 0x06 C_UnwrapKey", 0),
        ("import", "fail 0x30 C_UnwrapKey", 1),
        ("import", "fail 0x06 C_GenerateKeyPair;fail 0x06 C_CreateObject", 1),
    ],
)
def test_a_failing_token_loses_no_other_key(operator, file_keys, command, faults, status):
    """Its failing calls leave the handle of the other key where a new one's would be."""
    operator("key", "generate", "other", "--type", "p256", "--token", "prod")
    operator.write_conf(operator.section("prod", module=operator.stage.hsm))
    what = ("--type", "p256") if command == "generate" else (file_keys["rsa2048"], "--keep")
    failed = operator(
        "key", command, "new", *what, status=status, env={"IMMURE_HSM_FAULTS": faults}
    )
    assert "CKR_" in failed.err and "stays on the token" not in failed.err
    assert sorted(objects(operator, "other")) == ["Private Key", "Public Key"]
    assert sorted(objects(operator, "new")) == ([] if status else ["Private Key", "Public Key"])


@pytest.mark.parametrize("key_type", KEY_TYPES)
def test_an_imported_key_is_the_same_key_and_is_called_imported(
    shared, authority, file_keys, key_type
):
    name, path = f"imported-{key_type}", file_keys[key_type]
    result = shared("key", "import", name, path, "--token", "prod", "--json")
    assert json.loads(result.out)["verdict"] == "imported"
    assert path.exists() and f"{path} still holds the private key" in result.err
    assert "replace it" in result.err
    # SoftHSM 2.6 unwraps RSA and EC keys, and no Ed25519 keys.
    assert ("unencrypted" in result.err) == (key_type == "ed25519")

    seen = objects(shared, name)
    assert sorted(seen) == ["Private Key", "Public Key"]
    assert re.search(r"Access:\s+sensitive$", seen["Private Key"], re.M)
    assert re.search(r"Usage:\s+sign$", seen["Private Key"], re.M)
    request = shared("csr", name, "--san", "x.example").stdout
    checked = authority.openssl("req", "-verify", "-noout", "-pubkey", input=request)
    public = authority.openssl("pkey", "-in", path, "-pubout").stdout
    assert "verify OK" in checked.text and public in checked.stdout

    again = shared("key", "import", f"{name}-2", path, "--token", "prod", status=1)
    assert f'as "{name}"' in again.err


def test_import_leaves_no_transport_keys_behind(operator, file_keys):
    operator("key", "import", "only", file_keys["p256"], "--token", "prod", "--keep")
    text = operator.pkcs11_tool("--list-objects")
    assert len(re.findall(r"^\S.*Object", text, re.M)) == 2


def test_import_shreds_when_told_to(operator, file_keys):
    path = copy_of(file_keys["p256"], operator)
    other_name = operator.directory / "hard-link"
    os.link(path, other_name)
    link = operator.directory / "link.pem"
    link.symlink_to(path)
    result = operator("key", "import", "www", link, "--token", "prod", "--shred")
    assert not path.exists() and "overwritten and removed" in result.err
    assert b"PRIVATE KEY" not in other_name.read_bytes() and "hard links" in result.err


def test_import_refuses_what_it_cannot_hold(operator, authority):
    path = operator.directory / "odd.key"
    for arguments in (
        "-algorithm RSA -pkeyopt rsa_keygen_bits:1024",
        "-algorithm EC -pkeyopt ec_paramgen_curve:secp256k1",
        "-algorithm X25519",
    ):
        authority.openssl("genpkey", *arguments.split(), "-out", path)
        shutil.chown(path, DAEMON_USER)
        result = operator("key", "import", "odd", path, "--token", "prod", "--shred", status=1)
        assert "cannot be imported" in result.err and path.exists()
    path.write_text("not a key")
    assert "odd.key" in operator("key", "import", "odd", path, "--token", "prod", status=1).err
    assert operator.names() == []


def test_import_says_what_a_file_without_a_private_key_is(operator, authority, file_keys):
    operator("key", "generate", "www", "--type", "p256", "--token", "prod")
    path = operator.directory / "file.pem"
    made = run("openssl", "req", "-x509", "-new", "-key", file_keys["p256"], "-subj", "/CN=a")
    for content, says in (
        (operator("key", "reference", "www").out, "is a key reference: its key is in a token already"),
        (made.stdout.decode(), "is a certificate, which holds no private key"),
    ):
        path.write_text(content)
        result = operator("key", "import", "x", path, "--token", "prod", status=1)
        assert result.err.startswith(f"immure: {path} {says}"), result.err


def test_import_asks_for_a_pass_phrase_only_on_a_terminal(operator, authority, file_keys):
    path = operator.directory / "encrypted.key"
    authority.openssl(
        "pkey", "-in", file_keys["p256"], "-aes256", "-passout", "pass:open", "-out", path
    )
    shutil.chown(path, DAEMON_USER, DAEMON_USER)
    command = ["key", "import", "www", path, "--token", "prod"]
    result = operator(*command, status=1)
    assert "encrypted" in result.err and "terminal" in result.err

    status, shown = operator.on_terminal(command, [("encrypted.key:", "wrong")])
    assert os.waitstatus_to_exitcode(status) == 1 and operator.names() == []
    status, shown = operator.on_terminal(
        command, [("encrypted.key:", "open"), ("[y/N]", "y")]
    )
    assert os.waitstatus_to_exitcode(status) == 0, shown
    assert "open" not in shown.split("encrypted.key:")[1].split("\n")[0]
    assert not path.exists() and operator.names() == ["www"]


def test_import_keeps_the_file_when_the_answer_is_not_yes(operator, file_keys):
    path = copy_of(file_keys["p256"], operator)
    status, shown = operator.on_terminal(
        ["key", "import", "www", path, "--token", "prod"], [("[y/N]", "")]
    )
    assert os.waitstatus_to_exitcode(status) == 0 and path.exists(), shown


# --- Looking -------------------------------------------------------------------------------------


def test_list_and_show_name_every_token_of_a_key(operator, file_keys):
    operator("key", "import", "both", file_keys["p256"], "--token", "prod", "--keep")
    operator("key", "import", "both", file_keys["p256"], "--token", "backup", "--keep")
    operator("key", "generate", "one", "--type", "ed25519", "--token", "backup")

    keys = {key["name"]: key for key in operator.json("key", "list")["keys"]}
    assert keys["both"]["tokens"] == ["backup", "prod"] and keys["both"]["verdict"] == "imported"
    assert keys["one"]["tokens"] == ["backup"] and keys["one"]["verdict"] == "in-token"
    assert "one" not in operator("key", "list", "--token", "prod").out

    shown = operator("key", "show", "both").out
    assert shown.count("was imported: a copy existed outside the token") == 2
    assert "BEGIN PUBLIC KEY" not in shown
    assert "BEGIN PUBLIC KEY" in operator("key", "show", "both", "--public").out
    copies = operator.json("key", "show", keys["both"]["key_id"])["tokens"]
    assert sorted(copy["token"] for copy in copies) == ["backup", "prod"]
    assert all(copy["attributes"]["never_extractable"] is False for copy in copies)


def test_keys_that_others_made_carelessly_are_called_so(operator):
    operator.pkcs11_tool(
        *"--keypairgen --key-type EC:prime256v1 --label loose --id 01 --extractable".split()
    )
    assert operator.json("key", "show", "loose")["verdict"] == "extractable"


def test_a_private_key_without_its_public_key_is_reported_as_unusable(operator):
    operator.pkcs11_tool(*"--keypairgen --key-type EC:prime256v1 --label lame --id 01".split())
    operator.pkcs11_tool(*"--delete-object --type pubkey --id 01".split())
    listed = operator("key", "list", "--json")
    assert json.loads(listed.out) == {"keys": [], "unusable": 1}
    assert "cannot be used" in listed.err
    assert "public key" in operator("key", "show", "lame", status=1).err


def test_a_name_of_several_keys_is_refused_and_the_key_id_taken(operator):
    ids = {}
    for token in ("prod", "backup"):
        made = operator.json("key", "generate", "www", "--type", "p256", "--token", token)
        ids[token] = made["key_id"]
    for command in (["key", "show"], ["key", "reference"], ["key", "destroy", "--yes"]):
        result = operator(*command, "www", status=1)
        assert all(f"{ids[t]}  EC P-256 on token {t}" in result.err for t in ids)
    assert operator.json("key", "show", ids["prod"].upper())["tokens"][0]["token"] == "prod"
    operator("key", "destroy", ids["backup"], "--yes")
    assert operator.json("key", "show", "www")["key_id"] == ids["prod"]


def test_keys_of_one_name_are_told_apart_by_long_ids(operator, authority):
    """As those of Google Cloud KMS, whose CKA_ID is the key version's resource name."""
    for digit in ("1", "2"):
        cka_id = f"projects/p/locations/l/keyRings/r/cryptoKeys/www/cryptoKeyVersions/{digit}".ljust(100)
        operator.pkcs11_tool(
            *"--keypairgen --key-type EC:prime256v1 --label www --id".split(), cka_id.encode().hex()
        )
    listed = operator.json("key", "list")
    assert [key["name"] for key in listed["keys"]] == ["www", "www"] and listed["unusable"] == 0
    uris = set()
    for key in listed["keys"]:
        uris.add(operator.json("key", "show", key["key_id"])["tokens"][0]["uri"])
        request = operator("csr", key["key_id"], "--san", "a.example").stdout
        assert "verify OK" in authority.openssl("req", "-noout", "-verify", input=request).text
    assert len(uris) == 2 and all(uri.count("%") == 100 for uri in uris)


def test_a_token_that_is_away_is_warned_of_and_the_others_are_used(operator):
    operator("key", "generate", "www", "--type", "p256", "--token", "prod")
    operator.write_conf(operator.section("prod") + operator.section("away", label="nowhere"))
    assert "warning" in operator("key", "show", "www").err
    assert "could be searched" in operator("key", "show", "other", status=1).err
    assert operator("key", "list", "--token", "prod").err == ""
    listed = operator("token", "list", "--json", status=1)
    states = {t["name"]: t["state"] for t in json.loads(listed.out)["tokens"]}
    assert states == {"prod": "ready", "away": "unavailable"} and "away" in listed.err


def test_token_list_tries_no_pin(operator):
    wrong = write_private(operator.directory / "wrong", "0000-wrong\n")
    operator.write_conf(operator.section("prod", pin_file=wrong))
    for _ in range(4):
        tokens = operator.json("token", "list")["tokens"]
    assert [t["state"] for t in tokens] == ["ready"]


def test_a_reference_names_the_key_and_its_tokens(operator, authority):
    made = operator.json("key", "generate", "www.example.com", "--type", "p256", "--token", "prod")
    path = operator.directory / "www.pem"
    assert operator("key", "reference", "www.example.com", "-o", path).out == ""
    text = path.read_text()
    assert text.splitlines()[:3] == [
        'Immure key reference: www.example.com (EC P-256), token "prod".',
        "This file holds no private key. It names one; the key is in the HSM.",
        "-----BEGIN IMMURE KEY REFERENCE-----",
    ]
    assert path.stat().st_mode & 0o777 == 0o644
    parsed = authority.openssl("asn1parse", input=text).stdout.decode()
    assert re.search(r"INTEGER\s+:01\n", parsed) and "UTF8STRING        :www.example.com" in parsed
    assert "token=prod" in parsed and "object=www.example.com" in parsed
    assert operator.json("key", "reference", made["key_id"])["reference"] == text


@pytest.mark.parametrize("command", [["key", "reference"], ["csr", "--san", "a.example"]])
def test_json_is_all_there_is_on_standard_output(shared, command):
    name = f"json-{command[0]}"
    shared("key", "generate", name, "--type", "p256", "--token", "prod")
    for output in ([], ["-o", "-"]):
        printed = json.loads(shared(*command, name, *output, "--json").out)
        assert printed["name"] == name and printed["file"] is None
    assert shared(*command, name, "-o", "-").out.endswith("-----\n")


def test_a_file_that_is_no_reference_is_not_overwritten(operator, file_keys):
    operator("key", "generate", "www", "--type", "p256", "--token", "prod")
    path = copy_of(file_keys["p256"], operator)
    before = path.read_bytes()
    for command in (["key", "reference", "www"], ["csr", "www", "--san", "a.example"]):
        assert "--force" in operator(*command, "-o", path, status=1).err
    assert path.read_bytes() == before
    operator("key", "reference", "www", "-o", path, "--force")
    first = path.read_bytes()
    operator("key", "reference", "www", "-o", path)
    assert path.read_bytes() == first and b"IMMURE KEY REFERENCE" in first
    assert list(operator.directory.glob("*.??????")) == []
    assert "cannot write" in operator("key", "reference", "www", "-o", "/nowhere/x", status=1).err


# --- Destroying ----------------------------------------------------------------------------------


def test_destroy_refuses_without_a_terminal_unless_told_yes(operator):
    operator("key", "generate", "www", "--type", "p256", "--token", "prod")
    assert "--yes" in operator("key", "destroy", "www", status=1).err
    assert operator.names() == ["www"]
    gone = operator.json("key", "destroy", "www", "--yes")
    assert gone == {"name": "www", "destroyed_on": ["prod"]}
    assert objects(operator, "www") == {}
    assert "no key" in operator("key", "destroy", "www", "--yes", status=1).err


def test_destroy_can_be_limited_to_a_token(operator, file_keys):
    for token in ("prod", "backup"):
        operator("key", "import", "www", file_keys["p256"], "--token", token, "--keep")
    operator("key", "destroy", "www", "--token", "prod", "--yes")
    assert objects(operator, "www") == {}
    assert len(objects(operator, "www", "backup")) == 2


def test_destroy_leaves_another_key_of_the_same_id_and_name_whole(operator, authority):
    make = ("--keypairgen", "--id", "01", "--label", "www", "--key-type")
    for kind in ("rsa:2048", "EC:prime256v1"):
        operator.pkcs11_tool(*make, kind)
    ids = {key["type"]: key["key_id"] for key in operator.json("key", "list")["keys"]}
    operator("key", "destroy", ids["RSA 2048"], "--yes")
    assert operator.json("key", "list")["unusable"] == 0
    request = operator("csr", ids["EC P-256"], "--san", "a.example").stdout
    assert "verify OK" in authority.openssl("req", "-noout", "-verify", input=request).text
    assert "RSA" not in operator.pkcs11_tool("--list-objects")
    operator("key", "destroy", ids["EC P-256"], "--yes")
    assert objects(operator, "www") == {}


def test_destroy_on_a_terminal_wants_the_name(operator):
    operator("key", "generate", "www", "--type", "p256", "--token", "prod")
    prompt = "Type its name to go on:"
    for answer in ("yes", ""):
        status, shown = operator.on_terminal(["key", "destroy", "www"], [(prompt, answer)])
        assert os.waitstatus_to_exitcode(status) == 1 and operator.names() == ["www"], shown
    status, shown = operator.on_terminal(["key", "destroy", "www"], [(prompt, "www")])
    assert os.waitstatus_to_exitcode(status) == 0 and operator.names() == [], shown


def test_lists_of_nothing_say_so_beside_standard_output(operator):
    result = operator("key", "list")
    assert (result.out, result.err) == ("", "immure: no key\n")
    assert operator.json("key", "list")["keys"] == []
    operator.write_conf("")
    result = operator("token", "list")
    assert (result.out, result.err) == ("", "immure: no token is configured\n")
    assert operator.json("token", "list")["tokens"] == []


# --- PINs ----------------------------------------------------------------------------------------


def test_without_a_configured_pin_it_is_asked_for_on_the_terminal(operator):
    operator.write_conf(operator.section("prod", pin_file=""))
    refused = operator("key", "list", status=1).err
    assert "none is configured, and there is no terminal to ask on; set pin-file in [token prod]" in refused

    status, shown = operator.on_terminal(["key", "list"], [("):", PIN)])
    assert os.waitstatus_to_exitcode(status) == 0, shown
    assert "PIN of token prod (prod, serial " in shown and PIN not in shown
    status, shown = operator.on_terminal(["key", "list"], [("):", "0000")])
    assert os.waitstatus_to_exitcode(status) == 1 and shown.count("PIN of token") == 1


def test_an_interrupted_pin_prompt_restores_the_terminal_and_dies_of_the_signal(operator):
    operator.write_conf(operator.section("prod", pin_file=""))
    shell = 'stty; "$@"; echo "status $?"; stty'
    command = operator.command
    operator.command = lambda *arguments: ("bash", "-c", f"trap : INT; {shell}", "x", *command(*arguments))
    status, shown = operator.on_terminal(["key", "list"], [], signal_at="PIN of token prod")
    assert "status 130" in shown
    assert "-echo" not in shown.split("status 130")[1], shown


def test_a_wrong_pin_is_tried_once(operator):
    wrong = write_private(operator.directory / "wrong", "0000-wrong\n")
    operator.write_conf(operator.section("prod", pin_file=wrong))
    result = operator("key", "generate", "www", "--type", "p256", status=1)
    assert "PIN" in result.err and "0000-wrong" not in result.text
    assert result.err.endswith("; each further command with this PIN uses up another try\n")
    assert len(result.err.splitlines()) == 1


def test_a_pin_file_of_somebody_else_is_a_clear_error(operator):
    operator.prod.pin_file.chmod(0o600)
    shutil.chown(operator.prod.pin_file, "root", "root")
    result = operator("key", "list", status=1)
    assert f"may not read the PIN file {operator.prod.pin_file}" in result.err
    assert "runuser -u immure -- immure" in result.err


def test_a_pin_file_that_is_not_there_is_to_be_made(operator):
    missing = operator.directory / "missing"
    operator.write_conf(operator.section("prod", pin_file=missing))
    result = operator("key", "list", status=1)
    assert f"make it: install -m 600 -o immure /dev/null {missing}, then" in result.err
    assert "runuser" not in result.err


def test_only_who_may_not_read_the_configuration_is_told_to_be_another(operator):
    missing = operator("-c", operator.directory / "missing", "token", "list", status=1).err
    assert "create it" in missing and "runuser" not in missing
    operator.conf.chmod(0o600)
    denied = operator("token", "list", status=1).err
    assert "may not read it" in denied and "runuser" in denied and "create it" not in denied


def test_commands_that_need_no_pin_do_not_look_at_its_file(operator):
    shutil.chown(operator.prod.pin_file, "root", "root")
    log = operator.directory / "log"
    operator.conf.write_text(f"[immured]\nsocket = /nowhere.sock\naudit = {log}\n\n" + operator.section("prod"))
    for command, asked in (["status"], "/nowhere.sock"), (["audit", "show"], log), (["audit", "verify"], log):
        said = operator(*command, status=1).err
        assert str(asked) in said and "PIN" not in said, said
    assert [token["problem"] for token in operator.json("token", "list")["tokens"]] == [None]


@pytest.mark.parametrize("command", ["generate", "import"])
def test_root_is_warned_of_making_keys_that_immured_does_not_see(operator, file_keys, command):
    operator.configure("prod")
    owner, advice = operator.command, f"hides the key from {DAEMON_USER}"
    words = {"generate": ["--type", "p256"], "import": [file_keys["p256"], "--keep"]}[command]
    assert "root" not in operator("key", command, "one", *words).err
    operator("key", "destroy", "one", "--yes")

    operator.command = lambda *arguments: (operator.stage.immure, *arguments)
    said = operator("key", command, "two", *words).err
    assert advice in said and f"runuser -u {DAEMON_USER} -- immure" in said
    operator.command = owner
    assert operator.names() == [], "no need for the warning"

    shutil.chown(operator.prod.pin_file, "root", "root")
    operator.command = lambda *arguments: (operator.stage.immure, *arguments)
    assert advice not in operator("key", "generate", "three", "--type", "p256").err


# --- Usage ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["key"],
        ["nonsense"],
        ["key", "nonsense"],
        ["--nonsense"],
        ["key", "list", "--nonsense"],
        ["key", "list", "-q"],
        ["key", "list", "extra"],
        ["key", "list", "--json=yes"],
        ["key", "list", "-c"],
        ["key", "show"],
        ["key", "generate", "www"],
        ["key", "generate", "--type", "p256", "--token", "prod"],
        ["key", "generate", "www", "--type", "p224", "--token", "prod"],
        ["key", "generate", "www", "--type", "p256"],
        ["key", "generate", "/www", "--type", "p256", "--token", "prod"],
        ["key", "generate", "a\tb", "--type", "p256", "--token", "prod"],
        ["key", "generate", "", "--type", "p256", "--token", "prod"],
        ["key", "generate", "x" * 256, "--type", "p256", "--token", "prod"],
        ["key", "generate", "0" * 64, "--type", "p256", "--token", "prod"],
        ["key", "import", "www", "/dev/null", "--shred", "--keep"],
    ],
)
def test_bad_usage_has_exit_status_2_and_nothing_on_standard_output(shared, arguments):
    result = shared(*arguments, status=2)
    assert result.out == "" and result.err != ""


def test_a_name_that_is_taken_is_refused(operator):
    operator("key", "generate", "www", "--type", "p256", "--token", "prod")
    assert "already" in operator(
        "key", "generate", "www", "--type", "p384", "--token", "prod", status=1
    ).err
    assert len(objects(operator, "www")) == 2


def test_names_may_hold_quotes_blanks_and_other_scripts(operator):
    for name in ("it's mine", "schlüssel-ключ", "-dash", "*"):
        made = operator("key", "generate", "--type", "p256", "--token", "prod", "--", name)
        shown = re.search(r"^  (immure key reference) (.*) -o FILE.pem$", made.out, re.M)[2]
        assert run("bash", "-c", f"printf %s {shown}").stdout.decode() == name
        assert json.loads(operator("key", "show", "--json", "--", name).out)["name"] == name


def members(json_value):
    """The names of all members of all objects in it."""
    if isinstance(json_value, list):
        return set().union(*map(members, json_value))
    if isinstance(json_value, dict):
        return set(json_value).union(*map(members, json_value.values()))
    return set()


def test_the_manual_page_has_every_json_member(operator, file_keys):
    printed = [
        operator.json("key", "generate", "www", "--type", "p256", "--token", "prod"),
        operator.json("key", "import", "old", file_keys["p256"], "--token", "prod", "--keep"),
        operator.json("key", "list"),
        operator.json("key", "show", "www"),
        operator.json("key", "reference", "www"),
        operator.json("key", "destroy", "www", "--yes"),
    ]
    page = (REPOSITORY / "man" / "immure-key.1").read_text()
    section = page.split(".Ss JSON")[1].split(".Sh ")[0]
    named = set(re.findall(r"^\.Dq (\w+)", section, re.M))
    assert members(printed) == named


@pytest.mark.parametrize("command", COMMANDS)
def test_help_and_manual_page_have_every_option(shared, command):
    help_text = shared(*command.split(), "--help").out
    assert help_text.startswith(f"Usage: immure {command}")
    options = set(re.findall(r"--[a-z]+", help_text))
    assert {"--config", "--json", "--help"} <= options
    pages = "".join(
        (REPOSITORY / "man" / page).read_text() for page in (COMMANDS[command], "immure.1")
    )
    described = set(re.findall(r"Fl -([a-z]+)", pages))
    assert {option[2:] for option in options} <= described


def test_help_lists_the_commands(shared):
    for arguments, names in ((["--help"], COMMANDS), (["key", "--help"], [
        name for name in COMMANDS if name.startswith("key")
    ])):
        listed = shared(*arguments).out
        assert re.findall(r"^  ((?:key |token )?[a-z]+)  ", listed, re.M) == list(names)
    assert shared("help").out == shared("--help").out
    assert shared("help", "key", "list").out == shared("key", "list", "--help").out


@pytest.mark.parametrize("option", ["-V", "--version"])
def test_both_programs_print_their_version(shared, stage, option):
    version = re.fullmatch(r"immure (\d+\.\d+\.\d+\n)", shared(option).out)[1]
    assert run(stage.immured, option, env=shared.env).stdout.decode() == f"immured {version}"


def test_the_configuration_is_named_by_option_before_environment(operator):
    other = operator.directory / "other.conf"
    other.write_text(operator.conf.read_text().replace("[token backup]", "[token second]"))
    for arguments in (["-c", other, "token", "list"], ["token", "list", f"--config={other}"]):
        assert [t["name"] for t in operator.json(*arguments)["tokens"]] == ["prod", "second"]
    assert "nowhere.conf" in operator("-c", "/nowhere.conf", "token", "list", status=1).err


def test_a_full_standard_output_is_an_error(operator):
    result = run(
        "bash", "-c", '"$@" >/dev/full', "x", *operator.command("token", "list"),
        env=operator.env, status=1,
    )
    assert "standard output" in result.text


# --- Status --------------------------------------------------------------------------------------


def test_status_says_when_immured_is_not_there(operator):
    result = operator("status", status=1)
    assert str(operator.socket) in result.err and "systemctl status immured" in result.err
    assert "/nowhere.sock" in operator("status", "--socket", "/nowhere.sock", status=1).err
    env = {"IMMURE_SOCKET": "/elsewhere.sock"}
    assert "/elsewhere.sock" in operator("status", status=1, env=env).err


def test_status_shows_what_immured_reports(stage, directory):
    operator = Operator(stage, directory)
    sections = operator.section("prod") + operator.section("away", label="nowhere") + GRANTS
    daemon = Immured(stage, directory / "d", sections, operator.prod.env).start()
    try:
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            status = json.loads(daemon.cli("status", "--json").stdout)
            states = {t["name"]: t["state"] for t in status["tokens"]}
            if states["prod"] == "ready" and states["away"] != "starting":
                break
            time.sleep(0.1)
        assert states == {"prod": "ready", "away": "down"}
        text = daemon.cli("status").stdout.decode()
        assert "degraded: 1 of 2 tokens ready" in text
        (problem,) = (line for line in text.splitlines() if ": " in line and "away" in line)
        assert re.match(r"token away: (?!token away)", problem), problem
        assert str(status["pid"]) in text
        granted = run(*as_user("www-data", stage.immure, "status"), env=daemon.env)
        assert "degraded" in granted.text, "who has a grant, and no access to the PIN file"
    finally:
        daemon.stop()


@contextmanager
def somebody_elses_socket(path, status):
    """A socket whose owner says this of itself to one who asks."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(path))
        path.chmod(0o666)
        listener.listen()
        listener.settimeout(20)

        def answer():
            connection, _ = listener.accept()
            with connection:
                asked = wire.REQUEST.unpack_from(connection.recv(wire.DATAGRAM_SIZE_MAX))
                head = wire.REPLY.pack(wire.VERSION, wire.STATUS, wire.OK, 0, asked[4])
                connection.send(head + json.dumps(status).encode())

        thread = threading.Thread(target=answer)
        thread.start()
        yield
        thread.join()


def test_status_lets_nobody_drive_the_terminal(operator):
    evil = "\x1b]0;owned\x07\r\n\x7f"
    token = {"name": f"name{evil}", "state": f"up{evil}", "label": f"label{evil}", "problem": f"why{evil}"}
    status = {
        "version": f"1{evil}", "config": f"conf{evil}", "tokens": [token], "requests": {f"r{evil}": 1},
        "refusals": {f"rule{evil}": 1}, "grants": [{"name": f"grant{evil}", "uses": 1, "over_rate": 1}],
    }
    with somebody_elses_socket(operator.socket, status):
        shown = operator("status").out
    assert shown.count("?]0;owned????") == 9
    assert [c for c in shown if ord(c) < 0x20 and c != "\n" or ord(c) == 0x7f] == []


def test_status_does_not_call_it_good_where_nobody_may_use_a_key(stage, directory):
    operator = Operator(stage, directory)
    daemon = Immured(stage, directory / "d", operator.section("prod"), operator.prod.env).start()
    try:
        assert "good, but no grant: nobody may use a key" in daemon.cli("status").stdout.decode()
        daemon.configure(operator.section("prod") + GRANTS)
        daemon.reload()
        wait_until(lambda: "good: all tokens are ready" in daemon.cli("status").stdout.decode(), "the grants")
    finally:
        daemon.stop()
