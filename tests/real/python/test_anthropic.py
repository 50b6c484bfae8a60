import anthropic
import pytest

MESSAGES = [{"role": "user", "content": "Say hello."}]


@pytest.fixture
def client(url, key):
    with anthropic.Anthropic(base_url=url, api_key=key, max_retries=0, timeout=20) as client:
        yield client


def test_a_message_is_answered_with_usage(client, model):
    answer = client.messages.create(model=model, messages=MESSAGES, max_tokens=5)
    assert answer.role == "assistant"
    assert len(answer.content[0].text.split()) == 5
    assert answer.stop_reason == "max_tokens"
    assert answer.usage.output_tokens == 5
    assert answer.usage.input_tokens >= 1


def test_a_message_streams_to_its_end(client, model):
    with client.messages.stream(model=model, messages=MESSAGES, max_tokens=5) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert len(text.split()) == 5
    assert final.usage.output_tokens == 5
    assert final.stop_reason == "max_tokens"


def test_raw_events_come_in_order(client, model):
    events = list(client.messages.create(model=model, messages=MESSAGES, max_tokens=2, stream=True))
    types = [event.type for event in events]
    assert types[0] == "message_start"
    assert types.count("content_block_delta") == 2
    assert types[-2:] == ["message_delta", "message_stop"]


def test_tokens_are_counted_without_an_answer(client, model):
    assert client.messages.count_tokens(model=model, messages=MESSAGES).input_tokens >= 1


@pytest.mark.gateway
def test_a_bad_key_is_an_authentication_error(url, model):
    client = anthropic.Anthropic(base_url=url, api_key="sk_" + "0" * 48, max_retries=0)
    with pytest.raises(anthropic.AuthenticationError) as error:
        client.messages.create(model=model, messages=MESSAGES, max_tokens=1)
    assert error.value.body["error"]["code"] == "invalid_api_key"


@pytest.mark.gateway
def test_an_unknown_model_is_not_found(client):
    with pytest.raises(anthropic.NotFoundError):
        client.messages.create(model="no-such-model", messages=MESSAGES, max_tokens=1)


def test_a_stream_closed_early_frees_the_upstream(client, model, mock):
    cancelled = mock.stats()["cancelled"]
    mock.control("slow")
    with client.messages.stream(model=model, messages=MESSAGES, max_tokens=60) as stream:
        next(iter(stream))
    stats = mock.until(lambda stats: stats["running"] == 0)
    assert stats["cancelled"] == cancelled + 1
