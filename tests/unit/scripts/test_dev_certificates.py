"""Development certificates: refused wherever they could serve beyond development."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest
from cryptography import x509
from dev_certificates import MARK, is_local, main


def test_they_are_marked_short_lived_and_nothing_more_can_be_signed(tmp_path: Path) -> None:
    """The CA's key is in no file; the directory is closed to others."""
    assert main(["--directory", str(tmp_path / "made")]) == 0
    certificate = x509.load_pem_x509_certificate((tmp_path / "made" / "ca.pem").read_bytes())
    assert MARK in certificate.subject.rfc4514_string().replace("\\", "")
    assert certificate.not_valid_after_utc < datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=8)
    assert b"PRIVATE KEY" not in (tmp_path / "made" / "ca.pem").read_bytes()
    assert not list((tmp_path / "made").glob("ca.key"))
    assert (tmp_path / "made").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    "arguments", [["--days", "31"], ["--days", "0"], ["--host", "kafka.example.com"], ["--host", "192.0.2.1"]]
)
def test_long_validity_and_public_names_are_refused(
    tmp_path: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """And nothing is made."""
    assert main(["--directory", str(tmp_path / "made"), *arguments]) == 2
    assert arguments[0] in capsys.readouterr().err
    assert not (tmp_path / "made").exists()


def test_what_is_there_is_not_written_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Who wants it anew is told what to do."""
    assert main(["--directory", str(tmp_path)]) == 2
    assert f"stop what uses it and run: rm -r {tmp_path}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("host", "local"), [("kafka", True), ("127.0.0.1", True), ("::1", True), ("a.test", True), ("a.com", False)]
)
def test_local_names(host: str, local: bool) -> None:  # noqa: FBT001 - an example
    assert is_local(host) is local
