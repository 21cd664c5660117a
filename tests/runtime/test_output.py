"""The standard streams are overheard without being replaced."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent


def run(code: str) -> str:
    program = f"import sys; sys.path.insert(0, {str(ROOT)!r})\nfrom flor_trace.runtime.output import Streams\n{code}"
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout


RECORD = """
heard = []
before = sys.stdout, type(sys.stdout), sys.stdout.isatty(), sys.stdout.fileno(), sys.stdout.encoding, sys.stdout.line_buffering
streams = Streams()
streams.record(lambda label, text: heard.append((label, text)))
"""


def test_everything_written_is_heard_and_written() -> None:
    out = run(
        RECORD
        + """
print("one", 2)
sys.stdout.writelines(["three\\n"])
sys.__stdout__.write("four\\n")
sys.stderr.write("five\\n")
streams.release()
print(heard)
"""
    )
    assert out.startswith("one 2\nthree\nfour\n")
    heard = eval(out.splitlines()[-1])
    assert "".join(text for label, text in heard if label == "stdout") == "one 2\nthree\nfour\n"
    assert ("stderr", "five\n") in heard


def test_the_stream_is_the_same_object_with_the_same_traits() -> None:
    out = run(
        RECORD
        + """
after = sys.stdout, type(sys.stdout), sys.stdout.isatty(), sys.stdout.fileno(), sys.stdout.encoding, sys.stdout.line_buffering
streams.release()
print(before == after, "write" in vars(sys.stdout))
"""
    )
    assert out == "True False\n"


def test_replay_diverts_text_and_bytes_and_answers_isatty_as_recorded() -> None:
    out = run(
        """
heard = []
streams = Streams()
streams.replay(lambda label, text: heard.append((label, text)), {"stdout": True})
print("text")
sys.stdout.buffer.write(b"bytes\\n")
tty = sys.stdout.isatty(), sys.stderr.isatty()
streams.release()
print(heard, tty)
"""
    )
    assert out == "[('stdout', 'text'), ('stdout', '\\n'), ('stdout', 'bytes\\n')] (True, False)\n"
