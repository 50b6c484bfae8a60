import base64
import struct

import openai
import pytest

MESSAGES = [{"role": "user", "content": "Say hello."}]


@pytest.fixture
def client(url, key):
    with openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0, timeout=20) as client:
        yield client


def test_chat_answers_with_usage(client, model):
    answer = client.chat.completions.create(model=model, messages=MESSAGES, max_tokens=5)
    assert answer.choices[0].message.role == "assistant"
    assert len(answer.choices[0].message.content.split()) == 5
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.completion_tokens == 5
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 5


def test_a_stream_shows_no_usage_unless_asked(client, model):
    chunks = list(client.chat.completions.create(model=model, messages=MESSAGES, max_tokens=5, stream=True))
    assert all(chunk.usage is None for chunk in chunks)
    assert all(chunk.choices for chunk in chunks)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert len(text.split()) == 5
    assert chunks[-1].choices[0].finish_reason == "length"


def test_a_stream_shows_usage_once_when_asked(client, model):
    chunks = list(
        client.chat.completions.create(
            model=model, messages=MESSAGES, max_tokens=5, stream=True, stream_options={"include_usage": True}
        )
    )
    with_usage = [chunk for chunk in chunks if chunk.usage]
    assert len(with_usage) == 1
    assert with_usage[0] is chunks[-1]
    assert with_usage[0].choices == []
    assert with_usage[0].usage.completion_tokens == 5


def test_completions_answer_whole_and_streamed(client, model):
    answer = client.completions.create(model=model, prompt="Once", max_tokens=4)
    assert len(answer.choices[0].text.split()) == 4
    assert answer.usage.completion_tokens == 4
    chunks = list(client.completions.create(model=model, prompt="Once", max_tokens=4, stream=True))
    assert "".join(chunk.choices[0].text for chunk in chunks) == answer.choices[0].text
    assert all(chunk.usage is None for chunk in chunks)


def test_embeddings_come_as_floats_whatever_the_wire_says(client, embedding_model):
    texts = ["one", "two", "three"]
    answer = client.embeddings.create(model=embedding_model, input=texts)
    assert [item.index for item in answer.data] == [0, 1, 2]
    floats = client.embeddings.create(model=embedding_model, input=texts, encoding_format="float")
    assert answer.data[0].embedding == pytest.approx(floats.data[0].embedding)
    raw = client.embeddings.create(model=embedding_model, input=texts, encoding_format="base64").data[0].embedding
    width = len(floats.data[0].embedding)
    assert list(struct.unpack(f"<{width}f", base64.b64decode(raw))) == pytest.approx(floats.data[0].embedding)
    assert answer.usage.prompt_tokens >= 1


def test_responses_answer(client, model):
    answer = client.responses.create(model=model, input="Say hello.", max_output_tokens=5)
    assert len(answer.output_text.split()) == 5
    assert answer.usage.output_tokens == 5
    assert answer.usage.total_tokens == answer.usage.input_tokens + 5


def test_responses_stream_to_their_end(client, model):
    events = list(client.responses.create(model=model, input="Say hello.", max_output_tokens=5, stream=True))
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert len(text.split()) == 5
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert events[0].type == "response.created"
    assert events[-1].type in ("response.completed", "response.incomplete")
    assert events[-1].response.usage.output_tokens == 5


def test_models_are_listed_and_found(client, model):
    assert model in [listed.id for listed in client.models.list()]
    assert client.models.retrieve(model).id == model


def test_a_model_that_is_not_there_is_not_found(client):
    with pytest.raises(openai.NotFoundError) as error:
        client.models.retrieve("no-such-model")
    assert error.value.code == "model_not_found"


def test_a_wrong_type_is_a_bad_request(client, model):
    with pytest.raises(openai.BadRequestError) as error:
        client.chat.completions.create(model=model, messages="hello")
    assert error.value.status_code == 400
    assert error.value.body["message"]


@pytest.mark.gateway
def test_a_bad_key_is_an_authentication_error_with_a_request_id(url, model):
    client = openai.OpenAI(base_url=f"{url}/v1", api_key="sk_" + "0" * 48, max_retries=0)
    with pytest.raises(openai.AuthenticationError) as error:
        client.chat.completions.create(model=model, messages=MESSAGES)
    assert error.value.code == "invalid_api_key"
    assert error.value.request_id
    assert error.value.request_id == error.value.response.headers["x-request-id"]
    assert error.value.body["request_id"] == error.value.request_id
    assert error.value.body["source"] == "gateway"


@pytest.mark.gateway
def test_an_unknown_model_is_not_found(client):
    with pytest.raises(openai.NotFoundError) as error:
        client.chat.completions.create(model="no-such-model", messages=MESSAGES)
    assert error.value.code == "model_not_found"
    assert error.value.request_id


@pytest.mark.gateway
def test_a_body_without_a_model_says_so(client):
    with pytest.raises(openai.BadRequestError) as error:
        client.post("/chat/completions", cast_to=object, body={"messages": MESSAGES})
    assert error.value.code == "model_required"


@pytest.mark.gateway
def test_every_answer_has_a_request_id_and_keeps_the_one_that_was_sent(client, model):
    made = client.chat.completions.with_raw_response.create(model=model, messages=MESSAGES, max_tokens=1)
    assert made.headers["x-request-id"]
    assert made.headers["x-obleth-admission"] in ("fast", "queued", "brownout")
    sent = client.chat.completions.with_raw_response.create(
        model=model, messages=MESSAGES, max_tokens=1, extra_headers={"x-request-id": "from-the-client"}
    )
    assert sent.headers["x-request-id"] == "from-the-client"


def test_a_failing_upstream_is_a_server_error(client, model, mock):
    mock.control("fail")
    with pytest.raises(openai.InternalServerError) as error:
        client.chat.completions.create(model=model, messages=MESSAGES)
    assert error.value.status_code >= 500


def test_a_client_timeout_frees_the_upstream(client, model, mock):
    cancelled = mock.stats()["cancelled"]
    mock.control("stall")
    with pytest.raises(openai.APITimeoutError):
        client.with_options(timeout=1).chat.completions.create(model=model, messages=MESSAGES)
    stats = mock.until(lambda stats: stats["running"] == 0)
    assert stats["cancelled"] == cancelled + 1


def test_a_stream_closed_early_frees_the_upstream(client, model, mock):
    before = mock.stats()
    mock.control("slow")
    stream = client.chat.completions.create(model=model, messages=MESSAGES, stream=True)
    next(iter(stream))
    assert mock.stats()["running"] == 1
    stream.close()
    stats = mock.until(lambda stats: stats["running"] == 0)
    assert stats["cancelled"] == before["cancelled"] + 1
    assert stats["completed"] == before["completed"]


@pytest.mark.gateway
def test_a_stream_cut_by_the_upstream_ends_with_an_error(client, model, mock):
    mock.control("cut")
    seen = []
    with pytest.raises(openai.APIError):
        for chunk in client.chat.completions.create(model=model, messages=MESSAGES, stream=True):
            seen.append(chunk)
    assert seen


@pytest.mark.gateway
def test_the_mock_sees_neither_steering_headers_nor_the_session(client, model, mock):
    headers = {"routing-strategy": "random", "x-session-id": "s-1", "x-custom": "kept"}
    client.chat.completions.create(model=model, messages=MESSAGES, max_tokens=1, extra_headers=headers)
    last = mock.stats()["last_headers"]
    assert "routing-strategy" not in last and "x-session-id" not in last
    assert last["x-custom"] == "kept"


def test_parallel_clients_share_the_gateway(url, key, model):
    import asyncio

    async def ask_all():
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0, timeout=30) as client:
            asks = [
                client.chat.completions.create(model=model, messages=MESSAGES, max_tokens=tokens)
                for tokens in range(1, 21)
            ]
            return await asyncio.gather(*asks)

    answers = asyncio.run(ask_all())
    assert [answer.usage.completion_tokens for answer in answers] == list(range(1, 21))
