"""Unit tests reach no network: only this machine itself, for servers that a test starts."""

from __future__ import annotations

import gc

from hypothesis import settings
from pytest_socket import socket_allow_hosts

settings.register_profile("unit", deadline=None, max_examples=25)
settings.register_profile("thorough", deadline=None, max_examples=500)  # --hypothesis-profile
settings.load_profile("unit")

# What modules hold stays to the end: looking through it for garbage takes an eighth of the time.
gc.disable()


def pytest_collection_finish() -> None:
    """Collect garbage again, of the tests alone."""
    gc.freeze()
    gc.enable()


def pytest_runtest_setup() -> None:
    """Block every connection but loopback; pytest-socket lifts the block after each test."""
    socket_allow_hosts(["127.0.0.1", "::1"], allow_unix_socket=True)
