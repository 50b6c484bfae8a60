"""The official Python SDKs against a running gateway.

OBLETH_URL   the gateway, e.g. http://127.0.0.1:8080
OBLETH_KEY   a key of a tenant that may use the models below
MOCK_URL     the mock upstream behind it, for `GET /stats` and `POST /control`
OBLETH_WAITING_URL, OBLETH_WAITING_ADMIN_URL, OBLETH_WAITING_TOKEN
             a second gateway in front of the mock, with one slot, comments on waiting streams after a second and a
             wait of four seconds at most; without it its tests are skipped
OBLETH_CHAT_MODEL, OBLETH_EMBEDDING_MODEL   default demo-model, demo-embedding

With OBLETH_URL equal to MOCK_URL the suite runs against the mock alone; tests of what only a gateway does are skipped.
"""

import json
import os
import time
import urllib.request

import pytest

GATEWAY = os.environ["OBLETH_URL"].rstrip("/")
MOCK = os.environ["MOCK_URL"].rstrip("/")
PATIENCE_SECONDS = 10


def pytest_configure(config):
    config.addinivalue_line("markers", "gateway: needs the gateway; the mock alone does not do it")


def pytest_collection_modifyitems(items):
    if GATEWAY != MOCK:
        return
    skip = pytest.mark.skip(reason="runs against the mock alone")
    for item in items:
        if item.get_closest_marker("gateway"):
            item.add_marker(skip)


@pytest.fixture(scope="session")
def url():
    return GATEWAY


@pytest.fixture(scope="session")
def key():
    return os.environ.get("OBLETH_KEY", "sk_none")


@pytest.fixture(scope="session")
def model():
    return os.environ.get("OBLETH_CHAT_MODEL", "demo-model")


@pytest.fixture(scope="session")
def embedding_model():
    return os.environ.get("OBLETH_EMBEDDING_MODEL", "demo-embedding")


class Mock:
    """The upstream's counters and faults."""

    def stats(self):
        with urllib.request.urlopen(f"{MOCK}/stats", timeout=PATIENCE_SECONDS) as answer:
            return json.load(answer)

    def control(self, mode, model="*"):
        body = json.dumps({"model": model, "mode": mode}).encode()
        request = urllib.request.Request(f"{MOCK}/control", body, {"content-type": "application/json"})
        urllib.request.urlopen(request, timeout=PATIENCE_SECONDS).close()

    def until(self, condition):
        """Polls the counters until the condition holds."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            stats = self.stats()
            if condition(stats):
                return stats
            assert time.monotonic() < deadline, f"never came true: {stats}"
            time.sleep(0.02)


@pytest.fixture
def mock():
    mock = Mock()
    yield mock
    mock.control("ok")
