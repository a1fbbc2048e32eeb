"""What is built is hardened: the compiler's and linker's protections are in the files themselves,
what they show to others is only what must be seen, and they link only what the design names."""

import re

import pytest
from harness.process import run
from harness.stage import BUILD, library

# Sanitizers bring libraries, and replace what is looked for here.
pytestmark = pytest.mark.slow

LIBC = {"libc.so.6", "ld-linux-x86-64.so.2"}
LIBCRYPTO = {"libcrypto.so.3", "libcrypto.so.4"}
PROGRAM = LIBC | LIBCRYPTO | {"libp11-kit.so.0", "libinih.so.1", "libjansson.so.4"}

# file: (libraries it may link, symbols it may export)
FILES = {
    "src/daemon/immured": (PROGRAM | {"libsystemd.so.0", "libseccomp.so.2"}, set()),
    "src/cli/immure": (PROGRAM, set()),
    "src/provider/immure.so": (LIBC | LIBCRYPTO, {"OSSL_provider_init"}),
    "src/engine/immure.so": (LIBC | LIBCRYPTO, {"bind_engine", "v_check"}),
    "src/nginx/ngx_immure_module.so": (LIBC, {"ngx_modules", "ngx_module_names", "ngx_module_order"}),
}
# The module leaves to nginx what glibc has checked variants of, and has nothing large on the stack.
# The engine has fewer functions than ENDBR_MIN; its object is looked at below.
NOTHING_TO_PROTECT = {
    "src/engine/immure.so": {"branch targets marked"},
    "src/nginx/ngx_immure_module.so": {"fortified calls", "stack probed page by page"},
}

# Fewer are in any program: those of the C library's start files.
ENDBR_MIN = 10

UNHARDENED = """
#include <stdio.h>
int main(int argc, char **argv) { char text[64]; return sprintf(text, argv[0], argc) + text[9]; }
"""


class File:
    def __init__(self, path):
        self.header = run("readelf", "-hW", path).text
        self.segments = run("readelf", "-lW", path).text
        self.dynamic = run("readelf", "-dW", path).text
        self.undefined = run("nm", "-D", "--undefined-only", path).text
        self.code = run("objdump", "-d", "--no-show-raw-insn", path).text
        # Those with a version are libc's own, copied into a program.
        defined = run("nm", "-D", "--defined-only", path).text.split("\n")
        self.exported = {line.split()[2] for line in defined if line and "@" not in line}
        self.needed = set(re.findall(r"\(NEEDED\).*\[(.+)\]", self.dynamic))


CHECKS = {
    "position independent": lambda f: "Type:                              DYN" in f.header,
    "bound at start": lambda f: re.search(r"\(FLAGS_1\).*\bNOW\b", f.dynamic),
    "relocations read-only": lambda f: "GNU_RELRO" in f.segments,
    "stack not executable": lambda f: re.search(r"GNU_STACK\s+(0x\w+\s+){5}RW ", f.segments),
    "stack protector": lambda f: "__stack_chk_fail" in f.undefined,
    "stack probed page by page": lambda f: re.search(r"\bor[qbl]\s+\$0x0,.*\(%rsp", f.code),
    "branch targets marked": lambda f: f.code.count("endbr64") >= ENDBR_MIN,
    "fortified calls": lambda f: re.search(r"__\w+_chk\b(?<!stack_chk)", f.undefined),
    "no search path of its own": lambda f: not re.search(r"\((RPATH|RUNPATH)\)", f.dynamic),
    "no relocations in the code": lambda f: "TEXTREL" not in f.dynamic,
}


def missing(path):
    """The names of the protections that a file lacks."""
    file = File(path)
    return {name for name, is_there in CHECKS.items() if not is_there(file)}


@pytest.fixture(params=FILES)
def built(request):
    path = BUILD / request.param
    if not path.exists():
        pytest.skip(f"{path} is not built: there is no nginx-dev, or no engines in OpenSSL")
    return path


def test_each_file_has_every_protection(built):
    assert missing(built) == NOTHING_TO_PROTECT.get(str(built.relative_to(BUILD)), set())


def test_a_file_built_without_them_is_noticed(directory):
    source, program = directory / "plain.c", directory / "plain"
    source.write_text(UNHARDENED)
    run(
        *"gcc -O2 -w -no-pie -U_FORTIFY_SOURCE -fno-stack-protector -fcf-protection=none".split(),
        *"-fno-stack-clash-protection -Wl,-z,norelro -Wl,-z,lazy -Wl,-z,execstack".split(),
        *("-Wl,-rpath,/tmp", "-o", program, source),
    )
    textrel = {"no relocations in the code"}  # a linker makes them only in a library
    assert missing(program) == CHECKS.keys() - textrel

    source.write_text('int value; int *get(void) { return &value; }')
    run("gcc", "-shared", "-fno-pic", "-mcmodel=large", "-Wl,-z,notext", "-o", program, source)
    assert missing(program) >= textrel


def test_each_file_shows_only_what_must_be_seen(built):
    _, exported = FILES[str(built.relative_to(BUILD))]
    # Some linkers show what the C library's start files have for it.
    assert File(built).exported - {"_IO_stdin_used"} == exported


def test_each_file_links_only_what_the_design_names(built):
    libraries, _ = FILES[str(built.relative_to(BUILD))]
    assert File(built).needed <= libraries


def test_every_object_is_ready_for_control_flow_protection():
    """The linker marks a file when all its parts are; Debian 12's C start files are not."""
    objects = [path for path in (BUILD / "src").rglob("*.o")]
    bare = [path for path in objects if "IBT, SHSTK" not in run("readelf", "-nW", path).text]
    assert objects and not bare
    if "IBT, SHSTK" in run("readelf", "-nW", library("crti.o")).text:
        files = [BUILD / file for file in FILES if (BUILD / file).exists()]
        assert all("IBT, SHSTK" in run("readelf", "-nW", file).text for file in files)
