"""Streams that get comments while they wait: a gateway with one slot in front of the same mock."""

import json
import os
import threading
import time
import urllib.request

import anthropic
import openai
import pytest

MESSAGES = [{"role": "user", "content": "Say hello."}]
URL = os.environ.get("OBLETH_WAITING_URL", "")
ADMIN = os.environ.get("OBLETH_WAITING_ADMIN_URL", "")
HELD_SECONDS = 2.5

pytestmark = pytest.mark.skipif(not URL, reason="OBLETH_WAITING_URL is not set")


def admin(path, body):
    headers = {"authorization": f"Bearer {os.environ['OBLETH_WAITING_TOKEN']}", "content-type": "application/json"}
    request = urllib.request.Request(f"{ADMIN}/api/v1{path}", json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)


@pytest.fixture(scope="module")
def waiting_key(model):
    admin("/models", {"model_name": model})
    admin("/models", {"model_name": "held"})
    tenant = admin("/tenants", {"name": "waiting"})
    return admin(f"/tenants/{tenant['id']}/keys", {"name": "waiting"})["secret"]


@pytest.fixture
def client(waiting_key):
    with openai.OpenAI(base_url=f"{URL}/v1", api_key=waiting_key, max_retries=0, timeout=20) as client:
        yield client


@pytest.fixture
def held(client, mock):
    """Holds the one slot until the upstream's silence is given up, after the time that is asked for."""
    holders = []

    def hold(seconds):
        def ask():
            with pytest.raises(openai.APITimeoutError):
                client.with_options(timeout=seconds).chat.completions.create(model="held", messages=MESSAGES)

        mock.control("stall", "held")
        before = mock.stats()["requests"]
        holder = threading.Thread(target=ask)
        holder.start()
        holders.append(holder)
        mock.until(lambda stats: stats["requests"] > before)

    yield hold
    for holder in holders:
        holder.join()
    mock.control("ok", "held")


def test_a_stream_with_comments_is_read_to_its_end(client, model, held):
    held(HELD_SECONDS)
    sent = time.monotonic()
    with client.chat.completions.with_streaming_response.create(
        model=model, messages=MESSAGES, max_tokens=5, stream=True
    ) as answer:
        head = time.monotonic() - sent
        assert "x-obleth-queue-ms" not in answer.headers
        assert answer.headers["x-obleth-admission"] == "queued"
        chunks = list(answer.parse())
    assert head < HELD_SECONDS - 0.5 < time.monotonic() - sent
    assert len("".join(chunk.choices[0].delta.content or "" for chunk in chunks).split()) == 5
    assert chunks[-1].choices[0].finish_reason == "length"


def test_the_other_apis_read_a_stream_with_comments_too(client, waiting_key, model, held):
    held(HELD_SECONDS)
    events = list(client.responses.create(model=model, input="Say hello.", max_output_tokens=5, stream=True))
    assert events[-1].type in ("response.completed", "response.incomplete")
    held(HELD_SECONDS)
    with anthropic.Anthropic(base_url=URL, api_key=waiting_key, max_retries=0, timeout=20) as other:
        with other.messages.stream(model=model, messages=MESSAGES, max_tokens=5) as stream:
            assert len("".join(stream.text_stream).split()) == 5


def test_a_wait_that_was_too_long_is_an_error_of_the_stream(client, waiting_key, model, held):
    held(10)
    with pytest.raises(openai.APIError) as error:
        list(client.chat.completions.create(model=model, messages=MESSAGES, stream=True))
    assert error.value.code == "admission_timeout"
    with anthropic.Anthropic(base_url=URL, api_key=waiting_key, max_retries=0, timeout=20) as other:
        with pytest.raises(anthropic.APIStatusError) as error:
            with other.messages.stream(model=model, messages=MESSAGES, max_tokens=5) as stream:
                list(stream)
    assert error.value.body["error"]["code"] == "admission_timeout"


def test_a_deadline_that_passes_is_a_server_error(client, model, held):
    held(HELD_SECONDS)
    with pytest.raises(openai.InternalServerError) as error:
        client.chat.completions.create(
            model=model, messages=MESSAGES, extra_headers={"x-obleth-deadline-ms": "300"}
        )
    assert error.value.code == "deadline_unreachable"
    assert int(error.value.response.headers["retry-after"]) >= 1
