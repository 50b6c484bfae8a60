"""What clients do wrong, and what happens to servers: raw requests through the gateway to the real servers.

Needs, beside what test_mcp.py needs, MCP_ADMIN and MCP_ADMIN_TOKEN (the management API), and the ports MCP_PORTS of the
two servers.
"""

import asyncio
import json
import os
import random
import socket
import time
import urllib.error
import urllib.request

import pytest

GATEWAY = os.environ["MCP_GATEWAY"]
HOST, PORT = GATEWAY.removeprefix("http://").split(":")
ADMIN = os.environ["MCP_ADMIN"] + "/api/v1"
CALLS = 200
MODERN = "2026-07-28"


def http(method, url, body=None, headers=()):
    data = None if body is None else (body if isinstance(body, bytes) else json.dumps(body).encode())
    request = urllib.request.Request(url, data=data, method=method, headers=dict(headers))
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.headers, answer.read().decode()
    except urllib.error.HTTPError as answer:
        return answer.code, answer.headers, answer.read().decode()


def admin(method, path, body=None):
    headers = {"authorization": f"Bearer {os.environ['MCP_ADMIN_TOKEN']}", "content-type": "application/json"}
    status, _, text = http(method, ADMIN + path, body, headers)
    assert status < 300, text
    return json.loads(text) if text else None


def post(path, body, key="MCP_KEY", **headers):
    headers = {
        "authorization": f"Bearer {os.environ[key]}",
        "content-type": "application/json",
        "accept": "application/json, text/event-stream",
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    return http("POST", GATEWAY + path, body, headers)


def response(text):
    """The response in an answer: JSON, or the last event."""
    lines = [line for line in text.splitlines() if line.startswith("data:") and line[5:].strip()]
    return json.loads(lines[-1][5:] if lines else text)


def opened(path, key="MCP_KEY"):
    params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "edges", "version": "1"}}
    status, headers, text = post(path, {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params}, key)
    assert status == 200, text
    session = headers["mcp-session-id"]
    note = {"jsonrpc": "2.0", "method": "notifications/initialized"}
    status, _, text = post(path, note, key, mcp_session_id=session, mcp_protocol_version="2025-11-25")
    assert (status, text) == (202, "")
    return session


def stateless(method, params, number=1):
    meta = {"io.modelcontextprotocol/protocolVersion": MODERN, "io.modelcontextprotocol/clientCapabilities": {}}
    return {"jsonrpc": "2.0", "id": number, "method": method, "params": {**params, "_meta": meta}}


def modern(method, params, **headers):
    return stateless(method, params), {"mcp_protocol_version": MODERN, "mcp_method": method, **headers}


def test_a_key_of_one_tool_gets_nothing_else_by_any_trick():
    key, path = "MCP_ECHO_KEY", "/mcp/everything"
    session = opened(path, key)

    def call(name):
        arguments = {"message": "x"} if name == "echo" else {"a": 1, "b": 2}
        return {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": name, "arguments": arguments}}

    def said(body, **headers):
        status, _, text = post(path, body, key, mcp_session_id=session, **headers)
        return status, text

    status, text = said({"jsonrpc": "2.0", "id": 1, "method": "tools/list"})
    assert (status, [tool["name"] for tool in response(text)["result"]["tools"]]) == (200, ["echo"])
    status, text = said(call("echo"))
    assert status == 200 and response(text)["result"]["content"][0]["text"] == "Echo: x"
    status, text = said(call("get-sum"))
    assert status == 403 and json.loads(text)["error"]["data"]["code"] == "tool_not_allowed"
    status, text = said(call("get-sum"), mcp_name="echo")
    assert status == 400 and json.loads(text)["error"]["code"] == -32020
    for body in [
        [call("echo"), call("get-sum")],
        [call("get-sum")],
        json.dumps(call("get-sum")).replace('"name"', '"name": "echo", "name"', 1).encode(),
        json.dumps(call("echo")).replace('"name"', '"Name": "get-sum", "name"', 1).encode(),
        json.dumps(call("echo")).replace('"jsonrpc"', '"params": {"name": "get-sum"}, "jsonrpc"', 1).encode(),
        b'{"jsonrpc": "2.0", "id": 1',
    ]:
        status, text = said(body)
        assert status == 400 and "Sum" not in text, text
    # A session of another key, and one that nobody has.
    for foreign in [opened(path), "00000000-0000-0000-0000-000000000000"]:
        status, _, text = post(path, call("echo"), key, mcp_session_id=foreign)
        assert (status, json.loads(text)["error"]["data"]["code"]) == (404, "session_not_found")
    # The same on the merged endpoint, under the merged name.
    body, headers = modern("tools/call", {"name": "everything__get-sum", "arguments": {"a": 1, "b": 2}})
    assert post("/mcp", body, key, **headers, mcp_name="everything__get-sum")[0] == 403
    assert post("/mcp", body, key, **headers, mcp_name="everything__echo")[0] == 400
    assert post("/mcp/reference", call("echo"), key)[0] == 403


@pytest.fixture
def away():
    """A server that is dead, and one that takes connections and never answers."""
    with socket.socket() as dead, socket.socket() as hangs:
        dead.bind(("127.0.0.1", 0))
        hangs.bind(("127.0.0.1", 0))
        hangs.listen(64)
        for name, at in [("dead", dead), ("hangs", hangs)]:
            admin("POST", "/mcp-servers", {"name": name, "upstream_url": f"http://127.0.0.1:{at.getsockname()[1]}/mcp"})
        yield
        for name in ["dead", "hangs"]:
            admin("DELETE", f"/mcp-servers/{name}")


def test_dead_and_hanging_servers_keep_nobody_waiting(away):
    took = []
    for _ in range(3):
        begun = time.monotonic()
        body, headers = modern("tools/list", {})
        status, _, text = post("/mcp", body, **headers)
        took.append(time.monotonic() - begun)
        names = [tool["name"] for tool in json.loads(text)["result"]["tools"]]
        assert status == 200 and {"everything__echo", "reference__echo"} <= set(names)
        assert not any(name.startswith(("dead__", "hangs__")) for name in names)
    print("lists took", [f"{seconds:.3f} s" for seconds in took])
    assert took[0] < 2.5 and max(took[1:]) < 0.5
    for tool in ["everything__echo", "reference__echo"]:
        begun = time.monotonic()
        body, headers = modern("tools/call", {"name": tool, "arguments": {"message": "x"}}, mcp_name=tool)
        status, _, text = post("/mcp", body, **headers)
        assert status == 200 and response(text)["result"]["content"][0]["text"] == "Echo: x"
        assert time.monotonic() - begun < 0.5


def established():
    """Connections that are open to the servers."""
    ports = {int(port) for port in os.environ["MCP_PORTS"].split()}
    with open("/proc/net/tcp") as table:
        rows = [line.split() for line in list(table)[1:]]
    return sum(row[3] == "01" and int(row[2].split(":")[1], 16) in ports for row in rows)


# Where a call goes, by its number: odd ones end up at the server `everything`.
WAYS = [
    ("/mcp/reference", "test_tool_with_progress"),
    ("/mcp/everything", "trigger-long-running-operation"),
    ("/mcp", "reference__test_tool_with_progress"),
    ("/mcp", "everything__trigger-long-running-operation"),
]


async def one_call(number, dice, session):
    """A streamed call that the client may leave. Whether it stayed."""
    path, name = WAYS[number % 4]
    if path == "/mcp/everything":
        body = {"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": {"name": name, "_meta": {}}}
        own = f"mcp-session-id: {session}\r\nmcp-protocol-version: 2025-11-25\r\n"
    else:
        body = stateless("tools/call", {"name": name}, number)
        own = f"mcp-protocol-version: {MODERN}\r\nmcp-method: tools/call\r\nmcp-name: {name}\r\n"
    body["params"]["arguments"] = {"duration": 1, "steps": 5} if "long" in name else {}
    body["params"]["_meta"]["progressToken"] = number
    text = json.dumps(body)
    reader, writer = await asyncio.open_connection(HOST, int(PORT))
    writer.write(
        f"POST {path} HTTP/1.1\r\nhost: {HOST}\r\nauthorization: Bearer {os.environ['MCP_KEY']}\r\n"
        f"content-type: application/json\r\naccept: application/json, text/event-stream\r\n{own}"
        f"x-request-id: edge-{number}\r\nconnection: close\r\ncontent-length: {len(text)}\r\n\r\n{text}".encode()
    )
    await writer.drain()
    stays = dice.random() < 0.4
    try:
        if stays:
            answer = await asyncio.wait_for(reader.read(-1), 60)
            assert b" 200 OK" in answer and b'"result"' in answer, answer
        else:
            await asyncio.sleep(dice.random() * 0.8)
    finally:
        writer.close()
    return stays


def rows():
    found, cursor = [], ""
    while True:
        page = admin("GET", f"/usage/logs?limit=1000{cursor}")
        found += [row for row in page["data"] if row["request_id"].startswith("edge-")]
        if not page["next_cursor"]:
            return found
        cursor = f"&cursor={page['next_cursor']}"


def wait_for(what, seconds, holds):
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until, what
        time.sleep(0.1)


def test_of_many_streamed_calls_that_are_left_at_random_nothing_stays():
    dice = random.Random(11)
    session = opened("/mcp/everything")

    async def all_of_them():
        calls = asyncio.gather(*(one_call(number, dice, session) for number in range(CALLS)))
        await asyncio.sleep(0.5)
        assert established() > 0, "they are counted"
        return await calls

    begun = time.monotonic()
    stayed = asyncio.run(all_of_them())
    print(f"{CALLS} calls, {CALLS - sum(stayed)} left, {time.monotonic() - begun:.1f} s")
    wait_for("a row for each call", 15, lambda: len(rows()) >= CALLS)
    # Idle connections are closed after a few seconds.
    wait_for("no connection to a server is left", 20, lambda: established() == 0)
    found = rows()
    assert sorted(row["request_id"] for row in found) == sorted(f"edge-{number}" for number in range(CALLS))
    for row in found:
        number = int(row["request_id"].removeprefix("edge-"))
        assert (row["route"], row["mcp_server"]) == ("mcp", "everything" if number % 2 else "reference")
        assert row["status"] == 200 if stayed[number] else row["status"] in (200, 499), row
    headers = {"authorization": f"Bearer {os.environ['MCP_KEY']}", "mcp-session-id": session}
    assert http("DELETE", f"{GATEWAY}/mcp/everything", None, headers)[0] == 200
