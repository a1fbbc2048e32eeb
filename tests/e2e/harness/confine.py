"""Runs a program as systemd would, as far as that can be done without it.

    confine.py [--calls FILE FAMILY,...] [--lock-memory] [--no-seccomp] COMMAND...

With --calls the file names the system calls that are allowed, one a line, and a socket is of one of
the families; others are answered with EPERM, as by SystemCallFilter= with
SystemCallErrorNumber=EPERM, and RestrictAddressFamilies=. With --lock-memory no memory becomes
executable that was not (MemoryDenyWriteExecute=). With --no-seccomp the program finds a kernel
without it.
"""

import ctypes
import errno
import os
import socket
import sys

ALLOW = 0x7FFF0000
DENY = 0x00050000
PR_SET_SECCOMP = 22
PR_SET_MDWE, MDWE_REFUSE_EXEC_GAIN = 65, 1
EQUAL = 4  # SCMP_CMP_EQ


class Comparison(ctypes.Structure):
    """struct scmp_arg_cmp: `argument` is `value`."""

    _fields_ = [("argument", ctypes.c_uint), ("operator", ctypes.c_int),
                ("value", ctypes.c_uint64), ("unused", ctypes.c_uint64)]


class Filter:
    """A seccomp filter; `default` is what happens to a call without a rule."""

    def __init__(self, default):
        self.library = ctypes.CDLL("libseccomp.so.2")
        self.library.seccomp_init.restype = ctypes.c_void_p
        self.context = ctypes.c_void_p(self.library.seccomp_init(default))

    def add(self, action, name, *comparisons):
        number = self.library.seccomp_syscall_resolve_name(name.encode())
        if number >= 0:  # there is one on this architecture
            conditions = (Comparison * len(comparisons))(*comparisons)
            self.check(self.library.seccomp_rule_add_array(
                self.context, action, number, len(comparisons), conditions))

    def load(self):
        self.check(self.library.seccomp_load(self.context))

    def check(self, result):
        assert result == 0, os.strerror(-result)


def allow_calls(path, families):
    wanted = Filter(DENY | errno.EPERM)
    for family in families:
        wanted.add(ALLOW, "socket", Comparison(0, EQUAL, getattr(socket, family)))
    with open(path) as names:
        for name in set(names.read().split()) - {"socket"}:
            wanted.add(ALLOW, name)
    wanted.load()


def lock_memory():
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    if prctl(PR_SET_MDWE, MDWE_REFUSE_EXEC_GAIN, 0, 0, 0) != 0:
        assert ctypes.get_errno() == errno.EINVAL  # Linux before 6.3 does not know it


def forbid_seccomp():
    old_kernel = Filter(ALLOW)
    old_kernel.add(DENY | errno.ENOSYS, "seccomp")
    old_kernel.add(DENY | errno.EINVAL, "prctl", Comparison(0, EQUAL, PR_SET_SECCOMP))
    old_kernel.load()


def main(arguments):
    while arguments[0].startswith("--"):
        option = arguments.pop(0)
        if option == "--calls":
            allow_calls(arguments.pop(0), arguments.pop(0).split(","))
        elif option == "--lock-memory":
            lock_memory()
        elif option == "--no-seccomp":
            forbid_seccomp()
    os.execvp(arguments[0], arguments)


main(sys.argv[1:])
