"""The checks of scripts/compat.sh: other people's software as upstreams of a running gateway. Standard library only.

OBLETH_URL, OBLETH_ADMIN_URL, OBLETH_ADMIN_TOKEN   the gateway
AIBRIX_URL                                         tests/real/aibrix_like.py
LITELLM_URL, LITELLM_KEY, LITELLM_MODEL            a LiteLLM proxy in front of the mock; without LITELLM_URL left out

Prints one line per check; exits 1 when one FAILED.
"""

import json
import os
import sys
import time
import traceback
import urllib.error
import urllib.request

GATEWAY = os.environ["OBLETH_URL"]
ADMIN = os.environ["OBLETH_ADMIN_URL"] + "/api/v1"
ADMIN_HEADERS = {"authorization": f"Bearer {os.environ['OBLETH_ADMIN_TOKEN']}"}
TIMEOUT_SECONDS = 30
LEDGER_SECONDS = 10
MESSAGES = [{"role": "user", "content": "Say hello."}]
INTERNAL_HEADERS = ("target-pod", "x-error-", "x-went-into-", "x-update-")


class Answer:
    def __init__(self, status, headers, raw):
        self.status, self.headers, self.raw = status, headers, raw

    def json(self):
        return json.loads(self.raw)

    def events(self):
        """The data of each SSE event."""
        events = [line[6:] for line in self.raw.decode().split("\n") if line.startswith("data: ")]
        return events


def call(method, url, body=None, headers=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"content-type": "application/json"} | (headers or {}), method=method)
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as answer:
            return Answer(answer.status, answer.headers, answer.read())
    except urllib.error.HTTPError as error:
        return Answer(error.code, error.headers, error.read())


def create(path, body):
    answer = call("POST", f"{ADMIN}{path}", body, ADMIN_HEADERS)
    assert answer.status == 201, f"POST {path}: {answer.status} {answer.raw[:300]}"
    return answer.json()


class Client:
    """A tenant with one key."""

    def __init__(self):
        tenant = create("/tenants", {"name": "compat"})
        self.secret = create(f"/tenants/{tenant['id']}/keys", {"name": "compat"})["secret"]

    def chat(self, model, headers=None, **members):
        body = {"model": model, "messages": MESSAGES} | members
        authorization = {"authorization": f"Bearer {self.secret}"}
        return call("POST", f"{GATEWAY}/v1/chat/completions", body, authorization | (headers or {}))


def ledger_row(answer):
    """The row of an answer, once it is written."""
    url = f"{ADMIN}/usage/logs/{answer.headers['x-request-id']}"
    deadline = time.monotonic() + LEDGER_SECONDS
    while True:
        row = call("GET", url, headers=ADMIN_HEADERS)
        if row.status == 200:
            return row.json()
        assert time.monotonic() < deadline, f"no ledger row: {row.status} {row.raw[:300]}"
        time.sleep(0.1)


def equal(what, seen, wanted):
    assert seen == wanted, f"{what} is {seen!r}, not {wanted!r}"


def ok(answer):
    assert answer.status == 200, f"status {answer.status}: {answer.raw[:300]}"
    return answer


def stream_text(answer):
    """The text of a chat stream that ended as it must."""
    events = ok(answer).events()
    equal("the last event", events[-1], "[DONE]")
    chunks = [json.loads(event) for event in events[:-1]]
    return chunks, "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks if c["choices"])


def no_internal_headers(answer):
    leaked = [name for name in answer.headers if name.lower().startswith(INTERNAL_HEADERS)]
    equal("internal headers", leaked, [])


def litellm_checks(client):
    model = os.environ["LITELLM_MODEL"]
    register = {
        "model_name": "through-litellm",
        "upstream_model": model,
        "api_base": os.environ["LITELLM_URL"] + "/v1",
        "api_key": os.environ["LITELLM_KEY"],
    }

    def registered():
        equal("model_name", create("/models", register)["model_name"], "through-litellm")

    def answers():
        answer = ok(client.chat("through-litellm", max_tokens=5))
        usage = answer.json()["usage"]
        equal("words", len(answer.json()["choices"][0]["message"]["content"].split()), 5)
        equal("completion_tokens", usage["completion_tokens"], 5)
        row = ledger_row(answer)
        equal("ledger tokens", (row["input_tokens"], row["output_tokens"]), (usage["prompt_tokens"], 5))
        equal("usage_source", row["usage_source"], "upstream")

    def streams():
        answer = client.chat("through-litellm", max_tokens=5, stream=True)
        chunks, text = stream_text(answer)
        equal("words", len(text.split()), 5)
        equal("usage chunks", [c for c in chunks if c.get("usage")], [])
        row = ledger_row(answer)
        equal("ledger", (row["output_tokens"], row["usage_source"], row["stream"]), (5, "upstream", True))

    def streams_with_usage():
        options = {"include_usage": True}
        chunks, _ = stream_text(client.chat("through-litellm", max_tokens=5, stream=True, stream_options=options))
        equal("usage", [c["usage"]["completion_tokens"] for c in chunks if c.get("usage")], [5])

    yield "litellm: the model is registered", registered
    yield "litellm: a JSON answer, its usage, its ledger row", answers
    yield "litellm: a stream without usage, its ledger row", streams
    yield "litellm: a stream with usage", streams_with_usage


def aibrix_checks(client):
    base = os.environ["AIBRIX_URL"]

    def registered():
        for name in ("known", "unknown", "limited", "broken"):
            create("/models", {"model_name": name, "api_base": base, "upstream_headers": {"routing-strategy": "least-request"}})

    def unknown():
        answer = client.chat("unknown")
        equal("status and code", (answer.status, answer.json()["error"]["code"]), (404, "model_not_found"))
        no_internal_headers(answer)

    def limited():
        answer = client.chat("limited")
        equal("status", answer.status, 429)
        assert (answer.headers["retry-after"] or "").isdigit(), f"retry-after is {answer.headers['retry-after']!r}"
        no_internal_headers(answer)

    def broken():
        answer = client.chat("broken")
        equal("status", answer.status, 503)
        assert answer.headers["retry-after"], "no retry-after"
        assert answer.json()["error"]["message"], "no message"

    def answers():
        answer = ok(client.chat("known", max_tokens=4))
        no_internal_headers(answer)
        row = ledger_row(answer)
        equal("ledger", (row["input_tokens"], row["output_tokens"], row["target_pod"]), (11, 4, "10.0.0.7:8000"))

    def streams():
        answer = client.chat("known", max_tokens=4, stream=True)
        chunks, text = stream_text(answer)
        equal("words", len(text.split()), 4)
        equal("usage chunks", [c for c in chunks if c.get("usage") or not c["choices"]], [])
        no_internal_headers(answer)
        row = ledger_row(answer)
        equal("ledger", (row["input_tokens"], row["output_tokens"], row["target_pod"]), (11, 4, "10.0.0.7:8000"))

    def steering():
        steered = {"routing-strategy": "random", "user": "mallory", "target-pod": "evil:1", "x-session-id": "s"}
        ok(client.chat("known", headers=steered, max_tokens=1))
        seen = call("GET", f"{base}/seen").json()
        equal("routing-strategy", seen["headers"].get("routing-strategy"), "least-request")
        passed = [name for name in ("user", "target-pod", "x-session-id", "x-api-key") if name in seen["headers"]]
        equal("headers of the client", passed, [])
        equal("model", seen["body"]["model"], "known")

    yield "aibrix: the models are registered", registered
    yield "aibrix: 400 model_not_found becomes 404", unknown
    yield "aibrix: 429 without a type gets retry-after", limited
    yield "aibrix: 503 without a type gets retry-after", broken
    yield "aibrix: target-pod goes to the ledger, not to the client", answers
    yield "aibrix: a stream that did not ask for usage works", streams
    yield "aibrix: only the operator steers", steering


def main():
    client = Client()
    checks = list(aibrix_checks(client))
    if os.environ.get("LITELLM_URL"):
        checks += litellm_checks(client)
    failed = 0
    for name, check in checks:
        try:
            check()
            print(f"ok      {name}", flush=True)
        except Exception as error:
            failed += 1
            print(f"FAILED  {name}: {error}", flush=True)
            if not isinstance(error, AssertionError):
                traceback.print_exc()
    print(f"{len(checks) - failed} of {len(checks)} checks hold")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
