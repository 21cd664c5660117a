"""Strikes at a named step of the recorder's disk work, in whichever process carries it out.

Every Python process of a trial has this folder on its path and `FAULTS_PLAN` in its environment: the name of a file that holds

    operation kind nth moment action

such as `write journal 3 half kill`: in the third write to a journal, after half of the bytes, SIGKILL. *Operations*: write, sync,
replace, create, any. *Kinds* of file: journal, pack, manifest, source, folder, any. *Moments*: before, half (writes only), after.
*Actions*: kill (this process), trainer (the training process, another one where a process of its own writes), writer and orphan (the
same two, but only operations of a writing process count), ENOSPC or EROFS (this and every later operation fails so), slow (each
operation takes 20 ms longer). The file may be emptied at any time.
"""

import errno
import os
import signal
import time

PLAN = os.environ.get("FAULTS_PLAN", "")
STORE = os.environ.get("FAULTS_STORE", "")
KILLS = ("kill", "trainer", "writer", "orphan")


def _kind(path):
    """What a path in a run's folder is for; None for everything else, replays included."""
    path = os.path.abspath(os.fsdecode(path))
    if not path.startswith(STORE + "/runs"):
        return None
    parts = path[len(STORE) + 1 :].split("/")[2:]
    if not parts:
        return "folder"
    name = parts[0].split(".")[0]
    if name in ("packs", "sources"):
        return {"packs": "pack", "sources": "source"}[name] if len(parts) > 1 else "folder"
    return name if name in ("journal", "manifest") else None


class Striker:
    def __init__(self, words):
        self.operation, self.kind, nth, self.moment, self.action = words
        self.nth = int(nth)
        self.seen = 0
        self.struck = False
        self.home = os.getpid()

    def due(self, operation, path):
        """Whether this very operation is the one; operations are counted in each process by itself."""
        if self.operation not in (operation, "any") or not self._concerns(path):
            return False
        if self.action in ("writer", "orphan") and os.getpid() == self.home:
            return False
        self.seen += 1
        return self.seen == self.nth or (self.seen > self.nth and self.action not in KILLS)

    def _concerns(self, path):
        kind = _kind(path)
        return kind is not None and self.kind in (kind, "any") and os.path.exists(PLAN) and os.path.getsize(PLAN) > 0

    def strike(self):
        if not self.struck:
            self.struck = True
            with open(PLAN + ".struck", "w") as file:
                file.write(str(os.getpid()))
        if self.action == "slow":
            time.sleep(0.02)
        elif self.action in KILLS:
            if self.action in ("trainer", "orphan"):
                with open(PLAN + ".trainer") as file:
                    os.kill(int(file.read()), signal.SIGKILL)
            else:
                os.kill(os.getpid(), signal.SIGKILL)
        else:
            number = getattr(errno, self.action)
            raise OSError(number, os.strerror(number))


def _path_of(descriptor):
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}")
    except OSError:
        return ""


def _wrapped(striker, operation, real, path_of, halve=None):
    def call(*args, **keywords):
        if not striker.due(operation, path_of(args)):
            return real(*args, **keywords)
        if striker.moment == "before" or striker.seen > striker.nth:
            striker.strike()
            return real(*args, **keywords)
        if striker.moment == "half" and halve is not None:
            result = real(*halve(args), **keywords)
            # A full disk takes what fits and says so at the next write.
            if striker.action in KILLS:
                striker.strike()
            return result
        result = real(*args, **keywords)
        if striker.action in (*KILLS, "slow"):
            striker.strike()
        return result

    return call


def _half(args):
    return (args[0], memoryview(args[1]).cast("B")[: max(len(args[1]) // 2, 1)], *args[2:])


def install(striker):
    for name in ("write", "pwrite"):
        setattr(os, name, _wrapped(striker, "write", getattr(os, name), lambda args: _path_of(args[0]), _half))
    os.writev = _wrapped(striker, "write", os.writev, lambda args: _path_of(args[0]))
    for name in ("fsync", "fdatasync"):
        setattr(os, name, _wrapped(striker, "sync", getattr(os, name), lambda args: _path_of(args[0])))
    for name in ("replace", "rename"):
        setattr(os, name, _wrapped(striker, "replace", getattr(os, name), lambda args: args[1]))
    os.mkdir = _wrapped(striker, "create", os.mkdir, lambda args: args[0])
    real_open = os.open

    def created(args):
        return args[0] if len(args) > 1 and args[1] & os.O_CREAT and isinstance(args[0], str) else ""

    os.open = _wrapped(striker, "create", real_open, created)


if PLAN and STORE and os.path.exists(PLAN):
    with open(PLAN) as _file:
        _words = _file.read().split()
    if _words:
        install(Striker(_words))
