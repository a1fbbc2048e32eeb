"""Tokens that fail when they are told to: copies of the fault module, which tests/fault describes."""

import shutil

from .process import wait_until
from .token import GRANTS, SOFTHSM


class FaultyModule:
    """A copy of the fault module with a SoftHSM of its own: what one does is not the other's."""

    def __init__(self, stage, directory, name):
        self.path = shutil.copy(stage.hsm, directory / f"{name}.so")
        shutil.copy(SOFTHSM, f"{self.path}.real")
        self.fault = directory / f"{name}.so.fault"

    def set(self, *commands):
        # At once, or a reader would see half of it.
        new = self.fault.with_suffix(".new")
        new.write_text("".join(f"{command}\n" for command in commands))
        new.chmod(0o644)
        new.rename(self.fault)

    def clear(self):
        self.fault.unlink(missing_ok=True)


def faulty_modules(stage, directory, names=("one", "two")):
    """One a name, in a directory that immured's user owns: its process removes the file of a crash."""
    shutil.chown(directory, "daemon")
    return [FaultyModule(stage, directory, name) for name in names]


def faulty_sections(token, modules, names=("one", "two"), lines=""):
    """The same token once a module, as sections of immure.conf."""
    return "".join(
        token.section(module=module.path).replace("[token soft]", f"[token {name}]") + lines
        for name, module in zip(names, modules)
    )


def tokens(immured):
    """What immured says of each token, by its name."""
    return {token["name"]: token for token in immured.status()["tokens"]}


def start_with(make_immured, token, modules, grants=GRANTS, env=None, lines=""):
    """An immured that has the same token once a module, and knows its keys by way of each."""
    sections = faulty_sections(token, modules, lines=lines)
    immured = make_immured(sections + grants, {"IMMURE_HSM_DELAY_MS": "2"} | (env or {}))
    # A login rewrites the token's file, and a SoftHSM that reads it just then goes on with no
    # token, or with one that lacks its label, its serial number or keys: then once more.
    whole = lambda f: f["state"] == "ready" and f["keys"] and f["label"] == token.label and f["serial"]
    for _ in range(5):
        immured.start()
        try:
            return wait_until(lambda: all(map(whole, tokens(immured).values())) and immured, "tokens", 5)
        except AssertionError:
            immured.stop()
    raise AssertionError(f"SoftHSM does not find its token: {immured.log()}")
