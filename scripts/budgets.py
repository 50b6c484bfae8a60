"""Floods one tenant with a limit a minute, and judges what it got. See budgets.sh."""

import http.client
import json
import sys
import threading
import time

PROXY, ADMIN, TOKEN, SECONDS = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], float(sys.argv[4])
LIMIT = 60_000
CLIENTS = 24
FROM = 60.0

lock = threading.Lock()
served = []
tries = [0, 0]


def call(port, method, path, body=None, credential=TOKEN):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    headers = {"authorization": f"Bearer {credential}", "content-type": "application/json"}
    connection.request(method, path, json.dumps(body) if body is not None else None, headers)
    answer = connection.getresponse()
    text = answer.read()
    connection.close()
    return answer.status, answer.headers, json.loads(text) if text else None


def client(number, key, start):
    prompt = "word " * (40 + 20 * (number % 5))
    body = {"model": "m", "max_tokens": 40 + 20 * (number % 4), "messages": [{"role": "user", "content": prompt}]}
    again = False
    while time.monotonic() - start < SECONDS:
        status, headers, answer = call(PROXY, "POST", "/v1/chat/completions", body, key)
        now = time.monotonic() - start
        with lock:
            if again:
                tries[0] += 1
                tries[1] += status == 200
            if status == 200:
                served.append((now, answer["usage"]["total_tokens"]))
        again = status == 429
        if again:
            assert answer["error"]["code"] == "tokens_per_minute", answer
            time.sleep(int(headers["retry-after"]))
        elif status != 200:
            raise SystemExit(f"{status}: {answer}")


def lone(key):
    """One client alone: what `retry-after` promises holds if nothing else is sent."""
    body = {"model": "m", "max_tokens": 100, "messages": [{"role": "user", "content": "word " * 2000}]}
    passed = refused = 0
    end = time.monotonic() + 45
    while time.monotonic() < end:
        status, headers, _ = call(PROXY, "POST", "/v1/chat/completions", body, key)
        if status == 429:
            refused += 1
            time.sleep(int(headers["retry-after"]))
            status, _, _ = call(PROXY, "POST", "/v1/chat/completions", body, key)
            passed += status == 200
    return passed, refused


def tenant(name, tokens_per_minute):
    fields = {"name": name, "tokens_per_minute": tokens_per_minute}
    tenant = call(ADMIN, "POST", "/api/v1/tenants", fields)[2]["id"]
    return call(ADMIN, "POST", f"/api/v1/tenants/{tenant}/keys", {"name": name})[2]["secret"]


def main():
    call(ADMIN, "POST", "/api/v1/models", {"model_name": "m"})
    flood, alone = tenant("flood", LIMIT), tenant("alone", 30_000)
    start = time.monotonic()
    threads = [threading.Thread(target=client, args=(n, flood, start)) for n in range(CLIENTS)]
    for thread in threads:
        thread.start()
    passed, refused = lone(alone)
    for thread in threads:
        thread.join()
    tokens = sum(tokens for at, tokens in served if FROM <= at < SECONDS)
    due = LIMIT * (SECONDS - FROM) / 60
    off = tokens / due - 1
    print(f"tokens from second {FROM:.0f} to {SECONDS:.0f}: {tokens} of {due:.0f} ({off:+.2%}, limit 3 %)")
    print(f"in a flood of {CLIENTS}: {tries[1]} of {tries[0]} tries after retry-after passed")
    share = passed / refused if refused else 1
    print(f"alone: {passed} of {refused} tries after retry-after passed ({share:.0%}, limit 95 %)")
    if abs(off) > 0.03 or share < 0.95 or refused == 0:
        raise SystemExit(1)


main()
