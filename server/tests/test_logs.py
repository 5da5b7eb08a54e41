"""The log: one line per request, `print`, the `logging` module, and that nothing is lost when a process ends."""

from __future__ import annotations

import json
import re
from typing import Any

STAMP = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}"


def test_one_line_for_a_request_and_none_for_a_probe(start: Any, make_post: Any) -> None:
    worker = start("def init(): pass\ndef run(data): return data\n").ready()
    worker.ask(make_post(method="GET", target="/"))
    worker.score(b"0123456789", "x-request-id: abc")
    worker.ask(make_post(method="GET", target="/score?a=1"))
    worker.ask(make_post(method="GET", target="/nothing"))
    log = worker.wait_for_log("/nothing")
    pid = worker.process.pid
    assert re.search(
        rf"^{STAMP} I \[{pid}\] azmlinfsrv - POST /score 200 \d+\.\d{{3}}ms 12 request_id=abc$", log, re.M
    )
    assert re.search(
        rf"^{STAMP} I \[{pid}\] azmlinfsrv - GET /score\?a=1 200 \d+\.\d{{3}}ms 12 request_id=\S{{36}}$",
        log,
        re.M,
    )
    assert re.search(r"GET /nothing 404 \d+\.\d{3}ms \d+$", log, re.M)
    assert "GET / 200" not in log


def test_boot_lines(start: Any) -> None:
    worker = start("def init(): pass\ndef run(data): return data\n").ready()
    log = worker.wait_for_log("ready for serving traffic")
    wanted = [
        "Found user script at",
        "run() is not decorated",
        "Invoking user's init function",
        "User's init has completed",
        f"Worker with pid {worker.process.pid} ready for serving traffic",
    ]
    positions = [log.index(text) for text in wanted]
    assert positions == sorted(positions)


def test_print_goes_through_a_logger(start: Any) -> None:
    script = """
        import sys
        def init():
            print("one", 2, sep="-")
            print("to stderr", file=sys.stderr)
            print()
        def run(data):
            print("scored", data, end="")
            return 1
    """
    worker = start(script).ready()
    worker.score(b"\xe2\x82\xac")
    log = worker.wait_for_log("scored")
    assert re.search(rf"^{STAMP} I \[\d+\] azmlinfsrv\.print - one-2$", log, re.M)
    assert re.search(r"^to stderr$", log, re.M)
    assert re.search(r"azmlinfsrv\.print - scored \u20ac$", log, re.M)


def test_warnings_and_worse_are_logged_without_any_setup(start: Any) -> None:
    script = """
        import logging
        def init():
            logging.getLogger("mine").warning("be careful")
            logging.getLogger("mine").info("too quiet")
        def run(data):
            try: 1 / 0
            except ZeroDivisionError: logging.getLogger("mine").exception("bad")
    """
    worker = start(script).ready()
    worker.score(b"")
    log = worker.wait_for_log("ZeroDivisionError: division by zero")
    assert re.search(rf"^{STAMP} W \[\d+\] mine - be careful$", log, re.M)
    assert re.search(rf"^{STAMP} E \[\d+\] mine - bad$", log, re.M)
    assert "too quiet" not in log


def test_basic_config_of_the_script_works(start: Any) -> None:
    script = """
        import logging
        logging.basicConfig(level=logging.INFO, format="custom %(message)s")
        def init(): logging.info("hello")
        def run(data): logging.info("run %s", data)
    """
    worker = start(script).ready()
    worker.score(b"7")
    log = worker.wait_for_log("custom run 7")
    assert re.search(r"^custom hello$", log, re.M)
    assert log.count("POST /score") <= 1
    assert "custom POST" not in log


def test_logging_json_replaces_the_setup(start: Any) -> None:
    config = {
        "version": 1,
        "formatters": {"f": {"format": "OWN %(name)s %(message)s"}},
        "handlers": {"h": {"class": "logging.StreamHandler", "formatter": "f"}},
        "root": {"level": "INFO", "handlers": ["h"]},
    }
    script = "def init(): print('hi')\ndef run(data): return data\n"
    worker = start(script, files={"logging.json": json.dumps(config)}).ready()
    worker.score(b"x", "x-request-id: r")
    log = worker.wait_for_log("POST /score")
    assert re.search(r"^OWN azmlinfsrv POST /score 200 \d+\.\d{3}ms 3 request_id=r$", log, re.M)
    assert re.search(r"^OWN azmlinfsrv.print hi$", log, re.M)
    assert not re.search(r"^\d{4}-", log, re.M)


def test_no_request_line_is_lost_at_the_end(start: Any, make_post: Any) -> None:
    worker = start("def init(): pass\ndef run(data): return data\n").ready()
    wire = worker.connect().send(make_post(b"1") * 5000)
    for _ in range(5000):
        wire.read()
    worker.terminate()
    assert worker.process.wait(10) == 0
    assert worker.log.count("POST /score 200") == 5000


def test_the_last_words_before_a_crash_are_kept(start: Any, make_post: Any) -> None:
    script = """
        import ctypes
        def init(): pass
        def run(data):
            if data == "crash":
                print("about to crash")
                ctypes.string_at(0)
            return data
    """
    worker = start(script).ready()
    worker.score(b"before", "x-request-id: before-the-crash")
    worker.connect().send(make_post(b"crash"))
    assert worker.process.wait(10) == -11
    log = worker.log
    assert log.index("before-the-crash") < log.index("about to crash") < log.index("Segmentation fault")
    assert "score.py" in log[log.index("Segmentation fault") :]


def test_a_log_line_cannot_be_forged(start: Any, make_post: Any) -> None:
    worker = start("def init(): pass\ndef run(data): return data\n").ready()
    worker.ask(make_post(method="GET", target="/score?a=%0A2026-01-01 x".replace(" ", "%20")))
    worker.score(b"1", "x-request-id: a\xffb")
    log = worker.wait_for_log("a\u00ffb")
    assert all(re.match(STAMP, line) for line in log.splitlines())


def test_nobody_reads_the_log(start: Any) -> None:
    script = """
        import os
        def init(): pass
        def run(data):
            if data == "break":
                reader, writer = os.pipe()
                for fd in map(int, os.listdir("/proc/self/fd")):
                    if fd in (1, 2) or fd >= 200:  # the server's own, too: as when the reader of the log is gone
                        os.dup2(writer, fd)
                os.close(reader), os.close(writer)
            print("said to nobody", data)
            return data
    """
    worker = start(script).ready()
    for body in (b"break", b"x", b"y"):
        assert worker.score(body).json == body.decode()
    worker.terminate()
    assert worker.process.wait(10) == 0
    assert "said to nobody" not in worker.log


def test_a_script_that_closes_its_output_does_not_get_our_lines_into_its_files(
    start: Any, tmp_path: Any
) -> None:
    script = f"""
        import os, sys
        def init():
            global first, second
            sys.stdout.close()
            os.close(1); os.close(2)
            first = open({str(tmp_path / "first")!r}, "wb", buffering=0)
            second = open({str(tmp_path / "second")!r}, "wb", buffering=0)
            assert {{first.fileno(), second.fileno()}} == {{1, 2}}
            print("printed all the same")
        def run(data):
            first.write(b"data")
            raise ValueError("a fault")
    """
    worker = start(script).ready()
    worker.score(b"", "x-request-id: r-77")
    log = worker.wait_for_log("request_id=r-77")
    assert "printed all the same" in log and "ValueError: a fault" in log
    assert (tmp_path / "first").read_bytes() == b"data"
    assert (tmp_path / "second").read_bytes() == b""


def test_what_a_script_redirects_goes_where_it_wants_it(start: Any) -> None:
    script = """
        import contextlib, io, os, sys
        def init(): pass
        def run(data):
            inner = io.StringIO()
            with contextlib.redirect_stdout(inner):
                print("for the script alone")
            print("for everybody")
            sys.stdout, kept = None, sys.stdout
            print("without a stream")
            sys.stdout = io.TextIOWrapper(os.fdopen(1, "wb", closefd=False), encoding="utf-8")
            print("through another encoder")
            sys.stdout = kept
            return inner.getvalue()
    """
    worker = start(script).ready()
    assert worker.score(b"").json == "for the script alone\n"
    log = worker.wait_for_log("through another encoder")
    assert "without a stream" in log
    assert "for everybody" in log and "for the script alone" not in log


def test_forked_children_write_their_own_lines_and_none_of_their_parent(start: Any) -> None:
    script = """
        import os, subprocess, sys, threading
        def init(): pass
        def run(data):
            children = []
            for number in range(3):
                pid = os.fork()
                if not pid:
                    print("child", number)
                    os._exit(0)
                children.append(pid)
            for pid in children: os.waitpid(pid, 0)
            thread = threading.Thread(target=print, args=("from a thread",))
            thread.start(); thread.join()
            subprocess.run([sys.executable, "-c", "print('from a program')"], check=True)
            return "ok"
    """
    worker = start(script).ready()
    for number in range(10):
        assert worker.score(b"", f"x-request-id: asked-{number}.").status == 200
    log = worker.wait_for_log("request_id=asked-9.")
    for number in range(10):
        assert log.count(f"request_id=asked-{number}.") == 1
    for text in ("child 0", "child 1", "child 2", "from a thread", "from a program"):
        assert log.count(text) == 10
