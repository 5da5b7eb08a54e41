"""What /proc says of living processes."""

from __future__ import annotations

import os
import subprocess
import sys

from moorings.engines import children
from moorings.engines.inspection import _address, listening, processor_s

BUSY = "import time\nwhile time.process_time() < 0.1: pass\nprint('done', flush=True)\ninput()"


def test_the_processor_time_of_what_a_process_has_started() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", BUSY], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        used = processor_s(os.getpid())
        child.communicate(b"\n")
    assert used is not None
    assert used >= 0.09
    assert processor_s(2**22 + 1) is None


def test_what_shares_the_network_of_this_machine_is_not_told_apart() -> None:
    assert listening(os.getpid()) is None
    assert listening(2**22 + 1) is None


def test_the_kernel_s_spelling_of_addresses() -> None:
    assert _address("0100007F") == "127.0.0.1"
    assert _address("00000000") == "0.0.0.0"
    assert _address("00000000000000000000000001000000") == "::1"


def test_a_signal_without_a_handler_is_known_before_it_is_sent() -> None:
    code = "import signal, sys\nif sys.argv[1] == 'y': signal.signal(signal.SIGUSR2, print)\nprint(flush=True)\ninput()"
    for answer in ("y", "n"):
        argv = [sys.executable, "-c", code, answer]
        with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
            assert child.stdout is not None
            child.stdout.readline()
            assert children.catches(child.pid, children.STACKS) is (answer == "y")
            child.communicate(b"\n")
