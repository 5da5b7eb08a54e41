"""The runtime contract is one file in two distributions."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_two_copies_of_the_runtime_contract_are_equal_byte_for_byte() -> None:
    ours = ROOT / "src" / "moorings" / "contract.py"
    theirs = ROOT / "server" / "src" / "moorings_server" / "contract.py"
    assert ours.read_bytes() == theirs.read_bytes()
