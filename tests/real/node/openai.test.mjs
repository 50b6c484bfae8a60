// The official Node SDK against a running gateway; the variables are those of ../python/conftest.py.

import assert from "node:assert/strict";
import { afterEach, test } from "node:test";
import { setTimeout as pause } from "node:timers/promises";

import OpenAI from "openai";

const url = process.env.OBLETH_URL.replace(/\/$/, "");
const mock = process.env.MOCK_URL.replace(/\/$/, "");
const model = process.env.OBLETH_CHAT_MODEL ?? "demo-model";
const embeddingModel = process.env.OBLETH_EMBEDDING_MODEL ?? "demo-embedding";
const key = process.env.OBLETH_KEY ?? "sk_none";
const gatewayOnly = url === mock ? { skip: "runs against the mock alone" } : {};

const PATIENCE_MS = 10_000;
const messages = [{ role: "user", content: "Say hello." }];
const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: key, maxRetries: 0, timeout: 20_000 });

async function collect(stream) {
  const items = [];
  for await (const item of stream) items.push(item);
  return items;
}

async function stats() {
  const answer = await fetch(`${mock}/stats`, { signal: AbortSignal.timeout(PATIENCE_MS) });
  return answer.json();
}

async function control(mode) {
  const answer = await fetch(`${mock}/control`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ model: "*", mode }),
    signal: AbortSignal.timeout(PATIENCE_MS),
  });
  assert.equal(answer.status, 200);
}

async function until(condition) {
  const deadline = Date.now() + PATIENCE_MS;
  for (;;) {
    const now = await stats();
    if (condition(now)) return now;
    assert.ok(Date.now() < deadline, `never came true: ${JSON.stringify(now)}`);
    await pause(20);
  }
}

afterEach(() => control("ok"));

test("chat answers with usage", async () => {
  const answer = await client.chat.completions.create({ model, messages, max_tokens: 5 });
  assert.equal(answer.choices[0].message.content.split(" ").length, 5);
  assert.equal(answer.usage.completion_tokens, 5);
});

test("a stream shows no usage unless asked", async () => {
  const chunks = await collect(await client.chat.completions.create({ model, messages, max_tokens: 5, stream: true }));
  assert.ok(chunks.every((chunk) => !chunk.usage && chunk.choices.length === 1));
  const text = chunks.map((chunk) => chunk.choices[0].delta.content ?? "").join("");
  assert.equal(text.split(" ").length, 5);
});

test("a stream shows usage once when asked", async () => {
  const asked = { model, messages, max_tokens: 5, stream: true, stream_options: { include_usage: true } };
  const chunks = await collect(await client.chat.completions.create(asked));
  const withUsage = chunks.filter((chunk) => chunk.usage);
  assert.equal(withUsage.length, 1);
  assert.equal(withUsage[0], chunks.at(-1));
  assert.deepEqual(withUsage[0].choices, []);
  assert.equal(withUsage[0].usage.completion_tokens, 5);
});

test("completions answer", async () => {
  const answer = await client.completions.create({ model, prompt: "Once", max_tokens: 4 });
  assert.equal(answer.choices[0].text.split(" ").length, 4);
  assert.equal(answer.usage.completion_tokens, 4);
});

test("embeddings come as floats whatever the wire says", async () => {
  const input = ["one", "two"];
  const answer = await client.embeddings.create({ model: embeddingModel, input });
  const floats = await client.embeddings.create({ model: embeddingModel, input, encoding_format: "float" });
  assert.equal(answer.data.length, 2);
  assert.deepEqual(Array.from(answer.data[1].embedding), floats.data[1].embedding);
});

test("responses answer and stream to their end", async () => {
  const ask = { model, input: "Say hello.", max_output_tokens: 5 };
  const answer = await client.responses.create(ask);
  assert.equal(answer.output_text.split(" ").length, 5);
  assert.equal(answer.usage.output_tokens, 5);
  const events = await collect(await client.responses.create({ ...ask, stream: true }));
  assert.equal(events[0].type, "response.created");
  assert.match(events.at(-1).type, /^response\.(completed|incomplete)$/);
  assert.equal(events.at(-1).response.usage.output_tokens, 5);
});

test("models are listed and found", async () => {
  const names = (await collect(await client.models.list())).map((listed) => listed.id);
  assert.ok(names.includes(model));
  assert.equal((await client.models.retrieve(model)).id, model);
  await assert.rejects(client.models.retrieve("no-such-model"), (error) => {
    assert.ok(error instanceof OpenAI.NotFoundError);
    assert.equal(error.code, "model_not_found");
    return true;
  });
});

test("a wrong type is a bad request", async () => {
  await assert.rejects(client.chat.completions.create({ model, messages: "hello" }), OpenAI.BadRequestError);
});

test("a bad key is an authentication error with a request id", gatewayOnly, async () => {
  const stranger = new OpenAI({ baseURL: `${url}/v1`, apiKey: `sk_${"0".repeat(48)}`, maxRetries: 0 });
  await assert.rejects(stranger.chat.completions.create({ model, messages }), (error) => {
    assert.ok(error instanceof OpenAI.AuthenticationError);
    assert.equal(error.code, "invalid_api_key");
    assert.ok(error.requestID);
    assert.equal(error.error.request_id, error.requestID);
    return true;
  });
});

test("an unknown model is not found", gatewayOnly, async () => {
  await assert.rejects(client.chat.completions.create({ model: "no-such-model", messages }), (error) => {
    assert.ok(error instanceof OpenAI.NotFoundError);
    assert.equal(error.code, "model_not_found");
    return true;
  });
});

test("an answer has a request id", gatewayOnly, async () => {
  const answer = await client.chat.completions.create({ model, messages, max_tokens: 1 });
  assert.ok(answer._request_id);
});

test("a failing upstream is a server error", async () => {
  await control("fail");
  await assert.rejects(client.chat.completions.create({ model, messages }), OpenAI.InternalServerError);
});

test("a client timeout frees the upstream", async () => {
  const { cancelled } = await stats();
  await control("stall");
  await assert.rejects(
    client.chat.completions.create({ model, messages }, { timeout: 1000 }),
    OpenAI.APIConnectionTimeoutError,
  );
  const now = await until(({ running }) => running === 0);
  assert.equal(now.cancelled, cancelled + 1);
});

test("a stream left early frees the upstream", async () => {
  const before = await stats();
  await control("slow");
  const stream = await client.chat.completions.create({ model, messages, stream: true });
  for await (const _chunk of stream) break;
  const now = await until(({ running }) => running === 0);
  assert.equal(now.cancelled, before.cancelled + 1);
  assert.equal(now.completed, before.completed);
});

test("a stream cut by the upstream ends with an error", gatewayOnly, async () => {
  await control("cut");
  const stream = await client.chat.completions.create({ model, messages, stream: true });
  await assert.rejects(collect(stream), OpenAI.APIError);
});
