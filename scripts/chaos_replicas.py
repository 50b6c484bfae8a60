"""What two replicas on one PostgreSQL and one Redis do with each other.

Called by chaos.sh: chaos_replicas.py registry TOKEN PROXY ADMIN PROXY ADMIN
"""

import json
import sys
import time

from chaos import call, figure

ROUNDS = 50
# A change is in force at the other replicas within a second.
LIMIT = 1.0
# What is not seen by then is not seen at all.
BOUND = 10.0


class Replica:
    def __init__(self, proxy, admin, token):
        self.proxy, self.admin, self.token = int(proxy), int(admin), token

    def change(self, method, path, body=None, expected=201):
        status, answer = call(self.admin, method, f"/api/v1/{path}", self.token, body)
        assert status == expected, (method, path, status, answer)
        return json.loads(answer) if answer else None

    def status(self, key, path="/v1/models"):
        return call(self.proxy, "GET", path, key)[0]


def seen(what, check):
    """Seconds until `check` is true."""
    begun = time.monotonic()
    while not check():
        assert time.monotonic() < begun + BOUND, f"not seen at the other replica within {BOUND} s: {what}"
        time.sleep(0.001)
    return time.monotonic() - begun


def registry(token, *addresses):
    replicas = [Replica(*addresses[:2], token), Replica(*addresses[2:], token)]
    times = {"a key is made": [], "a model is made": [], "a key is disabled": [], "a tenant is suspended": []}
    for number in range(ROUNDS):
        here, there = replicas if number % 2 == 0 else reversed(replicas)
        name = f"spread-{time.time_ns()}"
        tenant = here.change("POST", "tenants", {"name": name})["id"]
        keys = [here.change("POST", f"tenants/{tenant}/keys", {"name": each}) for each in ("one", "two")]
        one, two = (key["secret"] for key in keys)
        times["a key is made"].append(seen("a key", lambda: there.status(two) == 200))
        here.change("POST", "models", {"model_name": name})
        times["a model is made"].append(seen("a model", lambda: there.status(one, f"/v1/models/{name}") == 200))
        here.change("PATCH", f"keys/{keys[0]['key']['id']}", {"disabled": True}, 200)
        times["a key is disabled"].append(seen("a key's end", lambda: there.status(one) == 403))
        here.change("PATCH", f"tenants/{tenant}", {"status": "suspended"}, 200)
        times["a tenant is suspended"].append(seen("a suspension", lambda: there.status(two) == 403))
        here.change("DELETE", f"models/{name}", expected=204)
    slowest = 0.0
    for what, seconds in times.items():
        seconds.sort()
        slowest = max(slowest, seconds[-1])
        middle = seconds[len(seconds) // 2]
        figure(f"{what}, seen elsewhere after: p50, ms", f"{middle * 1000:.0f}", "-")
        figure(f"{what}, seen elsewhere after: max, ms", f"{seconds[-1] * 1000:.0f}", f"{LIMIT * 1000:.0f}")
    assert slowest <= LIMIT, f"{slowest:.3f} s"


def main():
    part, *rest = sys.argv[1:]
    {"registry": registry}[part](*rest)


main()
