"""Run a program where folders cannot be exchanged: `python no_exchange.py PROGRAM…`.

A seccomp filter has the kernel answer EINVAL to renameat2(2) with RENAME_EXCHANGE, as NFS does, to this process and
all that it starts.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import sys

RENAMEAT2 = {"x86_64": 316, "aarch64": 276}
_EXCHANGE = 2
_NO_NEW_PRIVS, _SET_SECCOMP, _FILTER = 38, 22, 2
_LOAD, _EQUAL, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_NUMBER, _FLAGS = 0, 48  # in struct seccomp_data: the system call, and the low half of its fifth argument


def forbid() -> None:
    """From now on, for good. Raises OSError."""
    rules = [
        (_LOAD, 0, 0, _NUMBER),
        (_EQUAL, 0, 3, RENAMEAT2[platform.machine()]),
        (_LOAD, 0, 0, _FLAGS),
        (_EQUAL, 0, 1, _EXCHANGE),
        (_RETURN, 0, 0, _ERRNO | errno.EINVAL),
        (_RETURN, 0, 0, _ALLOW),
    ]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *rule) for rule in rules))
    program = ctypes.create_string_buffer(struct.pack("HP", len(rules), ctypes.addressof(code)))
    libc = ctypes.CDLL(None, use_errno=True)
    for arguments in ((_NO_NEW_PRIVS, 1, 0, 0, 0), (_SET_SECCOMP, _FILTER, ctypes.addressof(program), 0, 0)):
        if libc.prctl(arguments[0], *(ctypes.c_ulong(one) for one in arguments[1:])):
            raise OSError(ctypes.get_errno(), "the kernel takes no seccomp filter")


if __name__ == "__main__":
    forbid()
    os.execvp(sys.argv[1], sys.argv[1:])
