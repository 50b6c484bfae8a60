"""The official Python client, in both eras, through /mcp/{server} and /mcp.

Needs MCP_GATEWAY (its base URL), MCP_KEY and MCP_ECHO_KEY; servers `everything` and `reference`.
"""

import os

import anyio
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client
from mcp.shared.exceptions import MCPError

GATEWAY = os.environ["MCP_GATEWAY"]
pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return "asyncio"


def client(path, mode, key="MCP_KEY", **options):
    http = create_mcp_http_client(headers={"authorization": f"Bearer {os.environ[key]}"})
    return Client(streamable_http_client(GATEWAY + path, http_client=http), mode=mode, **options)


def words(result):
    return result.content[0].text


# Path, mode, and the name of a tool that echoes.
ROUTES = [
    ("/mcp/everything", "legacy", "echo"),
    ("/mcp/everything", "auto", "echo"),
    ("/mcp/reference", "legacy", "echo"),
    ("/mcp/reference", "auto", "echo"),
    ("/mcp/reference", "2026-07-28", "echo"),
    *[("/mcp", mode, f"{server}__echo") for server in ["everything", "reference"] for mode in ["legacy", "auto", "2026-07-28"]],
]


@pytest.mark.parametrize("path, mode, tool", ROUTES)
async def test_tools_are_listed_and_called(path, mode, tool):
    async with client(path, mode) as mcp:
        names = [tool.name for tool in (await mcp.list_tools()).tools]
        assert tool in names and len(names) > 5
        assert words(await mcp.call_tool(tool, {"message": "hällo"})) == "Echo: hällo"
        modern = mode == "2026-07-28" or (mode == "auto" and path != "/mcp/everything")
        assert mcp.protocol_version == ("2026-07-28" if modern else "2025-11-25")


@pytest.mark.parametrize("path, mode, tool", [
    ("/mcp/reference", "legacy", "test_tool_with_progress"),
    ("/mcp/reference", "2026-07-28", "test_tool_with_progress"),
    ("/mcp", "legacy", "reference__test_tool_with_progress"),
    ("/mcp", "2026-07-28", "reference__test_tool_with_progress"),
    ("/mcp", "2026-07-28", "everything__trigger-long-running-operation"),
])
async def test_progress_comes_while_the_call_runs(path, mode, tool):
    seen = []

    async def progress(done, total, message):
        seen.append(done)

    async with client(path, mode) as mcp:
        arguments = {"duration": 1, "steps": 3} if "long" in tool else {}
        result = await mcp.call_tool(tool, arguments, progress_callback=progress)
        assert not result.is_error
        assert len(seen) >= 3 and seen == sorted(seen)


@pytest.mark.parametrize("path, tool", [
    ("/mcp/reference", "test_input_required_result_elicitation"),
    ("/mcp", "reference__test_input_required_result_elicitation"),
])
async def test_a_server_may_ask_for_more(path, tool):
    from mcp_types import ElicitResult

    async def answer(context, params):
        return ElicitResult(action="accept", content={"name": "Ada"})

    async with client(path, "2026-07-28", elicitation_callback=answer) as mcp:
        assert words(await mcp.call_tool(tool, {})) == "Hello, Ada!"


async def test_a_server_may_ask_in_a_session():
    from mcp_types import ElicitResult

    async def answer(context, params):
        return ElicitResult(action="accept", content={"username": "ada", "email": "a@b"})

    async with client("/mcp/reference", "legacy", elicitation_callback=answer) as mcp:
        assert "action=accept" in words(await mcp.call_tool("test_elicitation", {"message": "Who?"}))


@pytest.mark.parametrize("path, mode, tool", [
    ("/mcp/reference", "2026-07-28", "by_region"),
    ("/mcp", "2026-07-28", "reference__by_region"),
    ("/mcp", "legacy", "reference__by_region"),
])
async def test_parameters_in_headers_pass(path, mode, tool):
    async with client(path, mode) as mcp:
        await mcp.list_tools()
        assert words(await mcp.call_tool(tool, {"region": "zürich"})) == "Region: zürich"


@pytest.mark.parametrize("mode", ["legacy", "auto"])
@pytest.mark.parametrize("path, tool", [("/mcp/everything", "echo"), ("/mcp", "everything__echo")])
async def test_a_key_of_one_tool_sees_and_calls_just_that(path, tool, mode):
    async with client(path, mode, key="MCP_ECHO_KEY") as mcp:
        assert [tool.name for tool in (await mcp.list_tools()).tools] == [tool]
        assert words(await mcp.call_tool(tool, {"message": "x"})) == "Echo: x"
        with pytest.raises((MCPError, Exception)):
            await mcp.call_tool(tool.replace("echo", "get-sum"), {"a": 1, "b": 2})


async def test_many_calls_at_a_time():
    async with client("/mcp", "2026-07-28") as mcp:
        async def call(number):
            server = ["everything", "reference"][number % 2]
            result = await mcp.call_tool(f"{server}__echo", {"message": str(number)})
            assert words(result) == f"Echo: {number}"

        async with anyio.create_task_group() as group:
            for number in range(40):
                group.start_soon(call, number)
