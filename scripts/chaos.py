"""Load on a gateway whose database or disk goes away, and a comparison of the ledger with what clients were told.

Called by chaos.sh: chaos.py postgres PROXY ADMIN METRICS TOKEN SECONDS SCRIPT | disk PROXY ADMIN METRICS TOKEN FOLDER
"""

import http.client
import json
import re
import subprocess
import sys
import threading
import time
from decimal import Decimal
from pathlib import Path

INPUT, OUTPUT = Decimal("0.0000005"), Decimal("0.0000015")


def call(port, method, path, credential, body=None, headers=None):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        text = None if body is None else json.dumps(body)
        given = {"authorization": f"Bearer {credential}", "content-type": "application/json", **(headers or {})}
        connection.request(method, path, text, given)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def figure(what, value, limit):
    """A row of the table that chaos.sh prints."""
    print("FIGURE", what, value, limit, sep="\t", flush=True)


class Gateway:
    def __init__(self, proxy, admin, metrics, token):
        self.proxy, self.admin, self.metrics, self.token = int(proxy), int(admin), int(metrics), token
        self.told, self.lock, self.number = {}, threading.Lock(), 0

    def make(self, path, body):
        status, answer = call(self.admin, "POST", f"/api/v1/{path}", self.token, body)
        assert status == 201, (path, status, answer)
        return json.loads(answer)

    def furnish(self):
        self.make("models", {"model_name": "m", "input_cost_per_token": str(INPUT), "output_cost_per_token": str(OUTPUT)})
        tenant = self.make("tenants", {"name": "chaos"})
        self.key = self.make(f"tenants/{tenant['id']}/keys", {"name": "chaos"})["secret"]

    def ask(self, stream):
        """One request; notes what it was told. Its status and error code."""
        with self.lock:
            self.number += 1
            name = f"chaos-{self.number}"
        body = {"model": "m", "messages": [{"role": "user", "content": "Hello"}], "stream": stream}
        if stream:
            body["stream_options"] = {"include_usage": True}
        status, answer = call(self.proxy, "POST", "/v1/chat/completions", self.key, body, {"x-request-id": name})
        code, usage = None, None
        if status != 200:
            code = json.loads(answer)["error"]["code"]
        elif stream:
            events = [line[6:] for line in answer.decode().splitlines() if line.startswith("data: ")]
            assert events[-1] == "[DONE]", answer
            usage = next(found for found in (json.loads(event).get("usage") for event in events[-2::-1]) if found)
        else:
            usage = json.loads(answer)["usage"]
        with self.lock:
            self.told[name] = (status, usage)
        return status, code

    def series(self):
        _, text = call(self.metrics, "GET", "/metrics", "")
        lines = re.findall(r"^(obleth_ledger\S*) (\S+)$", text.decode(), re.M)
        return {name: float(value) for name, value in lines}

    def backlog(self):
        return self.series()["obleth_ledger_backlog"]

    def rows(self):
        rows, cursor = {}, ""
        while True:
            status, answer = call(self.admin, "GET", f"/api/v1/usage/logs?limit=1000{cursor}", self.token)
            assert status == 200, answer
            page = json.loads(answer)
            for row in page["data"]:
                assert row["request_id"] not in rows, f"{row['request_id']} has two rows"
                rows[row["request_id"]] = row
            if not page["next_cursor"]:
                return rows
            cursor = f"&cursor={page['next_cursor']}"

    def compare(self, may_lack_refusals=False):
        rows = self.rows()
        theirs, ours, lacking = Decimal(0), Decimal(0), 0
        for name, (status, usage) in self.told.items():
            row = rows.pop(name, None)
            if row is None and may_lack_refusals and status == 503:
                lacking += 1
                continue
            assert row is not None, f"{name} ({status}) has no row"
            assert row["status"] == status, (status, row)
            if usage:
                tokens = (usage["prompt_tokens"], usage["completion_tokens"])
                assert (row["input_tokens"], row["output_tokens"]) == tokens, (usage, row)
                theirs += tokens[0] * INPUT + tokens[1] * OUTPUT
            ours += Decimal(row["cost_usd"])
        assert not rows, f"rows that nobody asked for: {list(rows)[:5]}"
        assert theirs == ours, (theirs, ours)
        print(f"{len(self.told)} answers, each with one row, {ours} USD on both sides")
        return lacking

    def check_sum(self):
        seen = self.series()
        rows = {result: seen[f'obleth_ledger_rows_total{{result="{result}"}}'] for result in ("received", "recorded", "lost")}
        backlog = seen["obleth_ledger_backlog"]
        assert rows["received"] == rows["recorded"] + backlog + rows["lost"], (rows, backlog)
        return rows

    def until(self, what, seconds, check):
        deadline = time.monotonic() + seconds
        while not check():
            assert time.monotonic() < deadline, f"waited {seconds} s for: {what}"
            time.sleep(0.05)


def load(gateway, clients, ended):
    """Clients that ask until `ended`; the threads, and what went wrong."""
    failures = []

    def client(number):
        stream = number % 2 == 0
        while not ended.is_set():
            try:
                status, code = gateway.ask(stream)
                if status != 200:
                    failures.append((status, code))
            except Exception as error:  # a thread's fault must be seen at the end
                failures.append(repr(error))
                return

    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    return threads, failures


def postgres(gateway, seconds, script):
    ended = threading.Event()
    threads, failures = load(gateway, 8, ended)
    try:
        time.sleep(2)
        subprocess.run(["bash", script, "stop"], check=True)
        away, highest = time.monotonic(), 0
        while time.monotonic() < away + float(seconds):
            time.sleep(0.5)
            highest = max(highest, gateway.backlog())
            gateway.check_sum()
        before = gateway.number
        subprocess.run(["bash", script, "start"], check=True)
        gateway.until("rows go to the database again", 20, lambda: gateway.backlog() < highest / 10)
        time.sleep(1)
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    assert not failures, failures[:5]
    gateway.until("the backlog is empty", 20, lambda: gateway.backlog() == 0)
    rows = gateway.check_sum()
    print(f"backlog up to {highest:.0f} rows and back to 0; {before} requests before the database was back; {rows}")
    assert highest > 100 and rows["lost"] == 0, (highest, rows)
    gateway.compare()
    figure("rows waiting at most while PostgreSQL was away", f"{highest:.0f}", "-")
    figure("answers, each with its row", len(gateway.told), "-")
    figure("requests refused or failed, rows lost", 0, "0")


def disk(gateway, folder):
    assert gateway.ask(False)[0] == 200
    ballast = Path(folder, "ballast")
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 4096)
        except OSError:
            pass
    served, refused = 0, []
    while len(refused) < 20:
        status, code = gateway.ask(served % 2 == 0)
        if status == 200:
            served += 1
            assert served < 5000, "the disk does not get full"
        else:
            refused.append((status, code))
    assert set(refused) == {(503, "store_unavailable")}, refused
    faults = gateway.series()['obleth_ledger_journal_faults_total{event="write_failed"}']
    assert faults > 0
    gateway.check_sum()
    ballast.unlink()
    gateway.until("requests are served again", 10, lambda: gateway.ask(False)[0] == 200)
    for _ in range(500):
        assert gateway.ask(False)[0] == 200
    gateway.until("the backlog is empty", 10, lambda: gateway.backlog() == 0)
    lost = gateway.check_sum()["lost"]
    print(f"{served} served on a full disk, then 503 store_unavailable; served again when there was room")
    lacking = gateway.compare(may_lack_refusals=True)
    figure("requests served on a full disk before the first refusal", served, "-")
    figure("answers without their row", 0, "0")
    assert lacking == lost, f"{lacking} refusals have no row, {lost} are counted as lost"


def main():
    kind, proxy, admin, metrics, token, *rest = sys.argv[1:]
    gateway = Gateway(proxy, admin, metrics, token)
    gateway.furnish()
    {"postgres": postgres, "disk": disk}[kind](gateway, *rest)


if __name__ == "__main__":
    main()
