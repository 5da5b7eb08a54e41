"""Lines on their way into a log: stamped, cut, without secrets, and no more of them than is allowed."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from moorings.engines.logintake import LAST_WORDS_BYTES, LINE_BYTES, Intake
from moorings.lib.redaction import Redactor

MIB = 1024 * 1024


class Kept:
    def __init__(
        self, *, rate: int = 1000 * MIB, secrets: tuple[str, ...] = (), stamped: bool = False
    ) -> None:
        self.data = b""
        self.intake = Intake(self.put, redact=Redactor(secrets).redact, bytes_per_s=rate, stamped=stamped)

    def put(self, data: bytes) -> None:
        assert data.endswith(b"\n")
        self.data += data

    def feed(self, *chunks: bytes, clock: float = 0.0) -> bytes:
        for chunk in chunks:
            self.intake.feed(chunk, 1_764_089_212.5, clock)
        return self.data


@given(
    st.lists(  # no @: `://...@` is where a password of an address would be, which is hidden
        st.binary(max_size=60).map(lambda b: b.replace(b"x", b"\n").replace(b"y", b"\r").replace(b"@", b"a")),
        max_size=30,
    )
)
def test_whatever_the_pieces_the_lines_are_the_same(chunks):
    kept = Kept()
    kept.feed(*chunks)
    kept.intake.flush(0.0)
    whole = b"".join(chunks)
    *ended, begun = whole.split(b"\n")
    lines = ended + ([begun] if begun.strip(b"\r") else [])
    assert kept.data == b"".join(last_state(line) + b"\n" for line in lines)


def last_state(line: bytes) -> bytes:
    return line.rstrip(b"\r").rpartition(b"\r")[2]


def test_a_progress_bar_is_its_last_state_and_is_seen_while_it_goes_on():
    kept, clock = Kept(), 0.0
    for percent in range(100):
        for step in range(100):  # 400 kB on one line, over a hundred seconds
            kept.feed(b"\rloading: %2d.%02d%% |%s|" % (percent, step, b"#" * 30), clock=clock)
            assert len(kept.intake._rest) < 100
            clock += 0.01
    kept.feed(b"\rloading: done\r\n", b"next\r\n", clock=clock)
    lines = kept.data.splitlines()
    assert lines[-2:] == [b"loading: done", b"next"]
    assert 8 <= len(lines) - 2 <= 11, "about one line every ten seconds"
    assert lines[0].startswith(b"loading: ")


def test_what_a_script_says_after_a_progress_bar_is_kept():
    kept = Kept()
    kept.feed(b"10%\r", b"20%\r", b"30%Traceback (most recent call last):\n  boom\n")
    assert kept.data == b"30%Traceback (most recent call last):\n  boom\n"


def test_every_line_has_a_stamp():
    assert Kept(stamped=True).feed(b"a\n\nb\n") == b"".join(
        b"2025-11-25T16:46:52.500000Z " + line for line in (b"a\n", b"\n", b"b\n")
    )


@given(st.integers(LINE_BYTES - 2, LINE_BYTES * 5), st.integers(1, 70_000))
def test_a_long_line_is_cut_and_says_by_how_much(length, piece):
    kept, line = Kept(), b"y" * length
    data = b"before\n" + line + b"\nafter\n"
    kept.feed(*(data[i : i + piece] for i in range(0, len(data), piece)))
    before, cut, after = kept.data.splitlines()
    assert (before, after) == (b"before", b"after")
    mark = b" [moorings: line cut, %d more bytes]" % (length - LINE_BYTES)
    assert cut == (line if length <= LINE_BYTES else line[:LINE_BYTES] + mark)


def test_a_line_of_200_mb_takes_no_memory():
    kept, piece = Kept(), b"z" * MIB
    for _ in range(200):
        kept.feed(piece)
        assert len(kept.intake._rest) < 2 * LINE_BYTES
    kept.feed(b"\nafter\n")
    assert kept.data.endswith(b" [moorings: line cut, %d more bytes]\nafter\n" % (200 * MIB - LINE_BYTES))


def test_half_a_line_waits_for_its_end_but_not_for_ever():
    kept = Kept()
    assert kept.feed(b"half") == b""
    assert kept.intake.pending
    assert kept.feed(b" whole\n") == b"half whole\n"
    assert not kept.intake.pending
    kept.feed(b"Password: ")
    kept.intake.settle(0.0, 0.0)
    assert kept.data.endswith(b"Password: \n")


def test_a_secret_in_two_pieces_and_across_the_cut_is_seen():
    secret = "s3cret-value-of-a-store"
    kept = Kept(secrets=(secret,))
    kept.feed(b"it is s3cret-va", b"lue-of-a-store here\n")
    assert kept.data == b"it is *** here\n"
    kept = Kept(secrets=(secret,))
    kept.feed(b"x" * (LINE_BYTES - 5) + secret.encode() + b"y" * 10_000, b"more\n")
    assert b"s3cr" not in kept.data


def test_a_flood_is_dropped_and_counted_and_its_last_words_are_kept():
    kept = Kept(rate=MIB)
    line = b"flood " * 20 + b"\n"
    fed = 0
    for step in range(1000):  # 100 MiB in ten seconds
        chunk = line * (MIB // 10 // len(line))
        kept.feed(chunk, clock=step / 100)
        fed += len(chunk)
    kept.feed(b"the last word\n", clock=10.0)
    kept.intake.settle(0.0, 11.0)
    assert len(kept.data) < 14 * MIB
    assert kept.data.endswith(b"the last word\n")
    notices = [text for text in kept.data.splitlines() if text.startswith(b"moorings: ")]
    lost = sum(int(text.split()[1].replace(b",", b"")) for text in notices)
    lines = sum(int(text.split()[5].strip(b"(").replace(b",", b"")) for text in notices)
    own = sum(len(text) + 1 for text in notices)
    assert lost + len(kept.data) - own == fed + len(b"the last word\n")
    assert lines + kept.data.count(b"\n") - len(notices) == fed // len(line) + 1


def test_our_own_line_comes_after_what_was_dropped_and_is_never_lost():
    kept = Kept(rate=1000)
    kept.feed(b"a\n" * 2000, b"Traceback: " + b"b" * 2000 + b"\n", b"ValueError: no\n")
    kept.intake.line("moorings: worker 0 ended", 0.0)
    assert kept.data.endswith(b"ValueError: no\nmoorings: worker 0 ended\n")


def test_what_is_kept_of_a_flood_is_bounded():
    kept = Kept(rate=1)
    for _ in range(50):
        kept.feed(b"x" * 256 * 1024)
    assert len(kept.intake._last) <= 256 * 1024
    for _ in range(5000):
        kept.feed(b"x" * 100)
    assert len(kept.intake._last) <= LAST_WORDS_BYTES
