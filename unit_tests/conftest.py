"""Unit tests reach no network: only this machine itself, for servers that a test starts."""

from __future__ import annotations

from hypothesis import settings
from pytest_socket import socket_allow_hosts

settings.register_profile("unit", deadline=None, max_examples=25)
settings.register_profile("thorough", deadline=None, max_examples=500)  # --hypothesis-profile
settings.load_profile("unit")


def pytest_runtest_setup() -> None:
    """Block every connection but loopback; pytest-socket lifts the block after each test."""
    socket_allow_hosts(["127.0.0.1", "::1"], allow_unix_socket=True)
