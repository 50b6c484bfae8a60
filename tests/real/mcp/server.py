"""An MCP server of both eras on the official Python SDK, with everything the conformance suite asks of a server.

    python server.py PORT
"""

import asyncio
import hashlib
import hmac
import json
import sys
import warnings

import mcp_types as t
import uvicorn
from mcp.server import Server
from mcp.shared.exceptions import MCPError

# What is deprecated in 2026-07-28 is tested all the same.
warnings.simplefilter("ignore")

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8DwHwAFBQIAX8jx0gAAAABJRU5ErkJggg=="
WAV = "UklGRiQAAABXQVZFZm10IBAAAAABAAEAQB8AAEAfAAABAAgAZGF0YQAAAAA="
SECRET = b"of this process alone"


def text(words):
    return {"type": "text", "text": words}


def embedded(uri, kind, words):
    return {"type": "resource", "resource": {"uri": uri, "mimeType": kind, "text": words}}


IMAGE = {"type": "image", "data": PNG, "mimeType": "image/png"}

# Tools that always answer the same.
FIXED = {
    "test_simple_text": [text("This is a simple text response for testing.")],
    "test_image_content": [IMAGE],
    "test_audio_content": [{"type": "audio", "data": WAV, "mimeType": "audio/wav"}],
    "test_embedded_resource": [
        embedded("test://embedded-resource", "text/plain", "This is an embedded resource content.")
    ],
    "test_multiple_content_types": [
        text("Multiple content types test:"),
        IMAGE,
        embedded("test://mixed-content-resource", "application/json", '{"test":"data","value":123}'),
    ],
}


def strings(*names):
    return {"type": "object", "properties": {name: {"type": "string"} for name in names}, "required": list(names)}


def done(*content, error=False):
    return t.CallToolResult.model_validate({"content": list(content), "isError": error})


# --- tools that talk while they run ---------------------------------------------------------------------------------


async def echo(ctx, params):
    return done(text("Echo: " + (params.arguments or {}).get("message", "")))


async def with_logging(ctx, params):
    for words in ["Tool execution started", "Tool processing data", "Tool execution completed"]:
        await ctx.session.send_log_message("info", words, related_request_id=ctx.request_id)
        await asyncio.sleep(0.05)
    return done(text("Logging is done."))


async def with_progress(ctx, params):
    for progress in [0, 50, 100]:
        await ctx.session.report_progress(progress, 100)
        await asyncio.sleep(0.05)
    return done(text("Progress is done."))


async def failing(ctx, params):
    return done(text("This tool intentionally returns an error for testing"), error=True)


async def sampling(ctx, params):
    message = t.SamplingMessage.model_validate({"role": "user", "content": text(params.arguments["prompt"])})
    told = await ctx.session.create_message([message], max_tokens=100, related_request_id=ctx.request_id)
    return done(text(f"LLM response: {getattr(told.content, 'text', told.content)}"))


async def elicit(ctx, message, schema, words):
    told = await ctx.session.elicit_form(message, schema, related_request_id=ctx.request_id)
    return done(text(f"{words}: action={told.action}, content={json.dumps(told.content)}"))


async def elicitation(ctx, params):
    return await elicit(ctx, params.arguments["message"], strings("username", "email"), "User response")


async def elicitation_defaults(ctx, params):
    properties = {
        "name": {"type": "string", "default": "John Doe"},
        "age": {"type": "integer", "default": 30},
        "score": {"type": "number", "default": 95.5},
        "status": {"type": "string", "enum": ["active", "inactive", "pending"], "default": "active"},
        "verified": {"type": "boolean", "default": True},
    }
    schema = {"type": "object", "properties": properties, "required": []}
    return await elicit(ctx, "Please look through the defaults", schema, "Elicitation completed")


def titled(*pairs):
    return [{"const": const, "title": title} for const, title in pairs]


async def elicitation_enums(ctx, params):
    options = ["option1", "option2", "option3"]
    first = titled(("value1", "First Option"), ("value2", "Second Option"), ("value3", "Third Option"))
    choices = titled(("value1", "First Choice"), ("value2", "Second Choice"), ("value3", "Third Choice"))
    properties = {
        "untitledSingle": {"type": "string", "enum": options},
        "titledSingle": {"type": "string", "oneOf": first},
        "legacyEnum": {
            "type": "string",
            "enum": ["opt1", "opt2", "opt3"],
            "enumNames": ["Option One", "Option Two", "Option Three"],
        },
        "untitledMulti": {"type": "array", "items": {"type": "string", "enum": options}},
        "titledMulti": {"type": "array", "items": {"anyOf": choices}},
    }
    schema = {"type": "object", "properties": properties, "required": []}
    return await elicit(ctx, "Please choose", schema, "Elicitation completed")


# --- tools that ask for more input by their result (2026-07-28) -----------------------------------------------------


def form(message, **properties):
    schema = {"type": "object", "properties": properties, "required": list(properties)}
    return {"method": "elicitation/create", "params": {"mode": "form", "message": message, "requestedSchema": schema}}


def ask_model(words, tokens):
    messages = [{"role": "user", "content": text(words)}]
    return {"method": "sampling/createMessage", "params": {"messages": messages, "maxTokens": tokens}}


NAME = {"user_name": form("What is your name?", name={"type": "string"})}
ROOTS = {"client_roots": {"method": "roots/list", "params": {}}}


def sealed(state):
    return state + "." + hmac.new(SECRET, state.encode(), hashlib.sha256).hexdigest()


def opened(params):
    state, _, mac = (params.request_state or "").rpartition(".")
    if not hmac.compare_digest(mac, sealed(state).rpartition(".")[2]):
        raise MCPError(code=-32602, message="the request state was changed")
    return state


# Which capability a request for input needs.
NEEDS = {"elicitation/create": "elicitation", "sampling/createMessage": "sampling", "roots/list": "roots"}


def more(ctx, requests, state=None):
    """Asks for input, if the client can give it."""
    has = ctx.session.client_capabilities
    usable = {key: value for key, value in requests.items() if getattr(has, NEEDS[value["method"]], None) is not None}
    if not usable:
        needs = {NEEDS[value["method"]]: {} for value in requests.values()}
        raise MCPError(code=-32021, message="a capability is missing", data={"requiredCapabilities": needs})
    result = {"inputRequests": usable}
    if state is not None:
        result["requestState"] = sealed(state)
    return t.InputRequiredResult.model_validate(result)


def given(params, key):
    """The answer to one request for input, as plain JSON."""
    value = (params.input_responses or {}).get(key)
    if value is None:
        return None
    return value if isinstance(value, dict) else value.model_dump(by_alias=True)


async def input_elicitation(ctx, params):
    told = given(params, "user_name")
    if not told or not isinstance((told.get("content") or {}).get("name"), str):
        return more(ctx, NAME)
    return done(text(f"Hello, {told['content']['name']}!"))


async def input_sampling(ctx, params):
    told = given(params, "capital_question")
    if not told:
        return more(ctx, {"capital_question": ask_model("What is the capital of France?", 100)})
    return done(text(f"The model says: {json.dumps(told.get('content'), default=str)}"))


async def input_roots(ctx, params):
    told = given(params, "client_roots")
    return done(text(f"Roots: {json.dumps(told, default=str)}")) if told else more(ctx, ROOTS)


async def input_state(ctx, params):
    if not given(params, "confirm"):
        return more(ctx, {"confirm": form("Please confirm", ok={"type": "boolean"})}, "confirm")
    return done(text("state-ok" if opened(params) == "confirm" else "state-wrong"))


async def input_several(ctx, params):
    wanted = {**NAME, "greeting": ask_model("Generate a greeting", 50), **ROOTS}
    missing = {key: value for key, value in wanted.items() if not given(params, key)}
    if missing:
        return more(ctx, missing, "several")
    opened(params)
    return done(text("All input is here."))


async def input_rounds(ctx, params):
    state = opened(params) if params.request_state else ""
    if state == "step1" and given(params, "step1"):
        return more(ctx, {"step2": form("Step 2: What is your favorite color?", color={"type": "string"})}, "step2")
    if state == "step2" and given(params, "step2"):
        return done(text("Both steps are done."))
    return more(ctx, {"step1": form("Step 1: What is your name?", name={"type": "string"})}, "step1")


async def input_tampered(ctx, params):
    if not params.request_state:
        return more(ctx, {"confirm": form("Please confirm", ok={"type": "boolean"})}, "untouched")
    return done(text(f"The state is {opened(params)}."))


async def logging_tool(ctx, params):
    for words in ["one", "two"]:
        await ctx.session.send_log_message("info", words, related_request_id=ctx.request_id)
    return done(text("Logged, if that was wanted."))


async def by_region(ctx, params):
    return done(text(f"Region: {(params.arguments or {}).get('region')}"))


async def missing_capability(ctx, params):
    if getattr(ctx.session.client_capabilities, "sampling", None) is None:
        data = {"requiredCapabilities": {"sampling": {}}}
        raise MCPError(code=-32021, message="sampling is missing", data=data)
    return done(text("The client can sample."))


# `region` is mirrored into the header Mcp-Param-Region.
REGION = {"type": "object", "properties": {"region": {"type": "string", "x-mcp-header": "Region"}}}

TALKING = {
    "echo": (echo, strings("message")),
    "test_tool_with_logging": (with_logging, None),
    "test_tool_with_progress": (with_progress, None),
    "test_error_handling": (failing, None),
    "test_sampling": (sampling, strings("prompt")),
    "test_elicitation": (elicitation, strings("message")),
    "test_elicitation_sep1034_defaults": (elicitation_defaults, None),
    "test_elicitation_sep1330_enums": (elicitation_enums, None),
    "test_missing_capability": (missing_capability, None),
    "test_streaming_elicitation": (input_elicitation, None),
    "test_logging_tool": (logging_tool, None),
    "by_region": (by_region, REGION),
    "test_input_required_result_elicitation": (input_elicitation, None),
    "test_input_required_result_sampling": (input_sampling, None),
    "test_input_required_result_list_roots": (input_roots, None),
    "test_input_required_result_request_state": (input_state, None),
    "test_input_required_result_multiple_inputs": (input_several, None),
    "test_input_required_result_multi_round": (input_rounds, None),
    "test_input_required_result_tampered_state": (input_tampered, None),
    "test_input_required_result_capabilities": (input_several, None),
}


async def list_tools(ctx, params):
    plain = {"type": "object", "properties": {}}
    schemas = {**{name: plain for name in FIXED}, **{name: schema or plain for name, (_, schema) in TALKING.items()}}
    tools = [{"name": name, "description": f"The tool {name}.", "inputSchema": s} for name, s in schemas.items()]
    return t.ListToolsResult.model_validate({"tools": tools, "ttlMs": 60_000, "cacheScope": "public"})


async def call_tool(ctx, params):
    if params.name in FIXED:
        return done(*FIXED[params.name])
    if params.name in TALKING:
        return await TALKING[params.name][0](ctx, params)
    raise MCPError(code=-32602, message=f"Unknown tool: {params.name}")


# --- resources and prompts ------------------------------------------------------------------------------------------

RESOURCES = {
    "test://static-text": {"mimeType": "text/plain", "text": "This is the content of the static text resource."},
    "test://static-binary": {"mimeType": "image/png", "blob": PNG},
    "test://watched-resource": {"mimeType": "text/plain", "text": "Watched."},
}


async def list_resources(ctx, params):
    resources = [
        {"uri": uri, "name": uri[7:], "description": f"The resource {uri}.", "mimeType": held["mimeType"]}
        for uri, held in RESOURCES.items()
    ]
    return t.ListResourcesResult.model_validate({"resources": resources, "ttlMs": 60_000, "cacheScope": "public"})


async def list_templates(ctx, params):
    template = {"uriTemplate": "test://template/{id}/data", "name": "template", "mimeType": "application/json"}
    found = {"resourceTemplates": [template], "ttlMs": 60_000, "cacheScope": "public"}
    return t.ListResourceTemplatesResult.model_validate(found)


async def read_resource(ctx, params):
    uri = str(params.uri)
    held = RESOURCES.get(uri)
    if uri.startswith("test://template/") and uri.endswith("/data"):
        number = uri.split("/")[3]
        words = json.dumps({"id": number, "templateTest": True, "data": f"Data for ID: {number}"})
        held = {"mimeType": "application/json", "text": words}
    if held is None:
        code = -32602 if ctx.protocol_version >= "2026-07-28" else -32002
        raise MCPError(code=code, message="Resource not found", data={"uri": uri})
    contents = {"contents": [{"uri": uri, **held}], "ttlMs": 60_000, "cacheScope": "public"}
    return t.ReadResourceResult.model_validate(contents)


async def subscribe(ctx, params):
    return t.EmptyResult()


PROMPTS = {
    "test_simple_prompt": [],
    "test_prompt_with_arguments": ["arg1", "arg2"],
    "test_prompt_with_embedded_resource": ["resourceUri"],
    "test_prompt_with_image": [],
    "test_input_required_result_prompt": [],
}


async def list_prompts(ctx, params):
    prompts = [
        {"name": name, "description": f"The prompt {name}.", "arguments": [{"name": n, "required": True} for n in names]}
        for name, names in PROMPTS.items()
    ]
    return t.ListPromptsResult.model_validate({"prompts": prompts, "ttlMs": 60_000, "cacheScope": "public"})


async def get_prompt(ctx, params):
    words = params.arguments or {}
    if params.name == "test_simple_prompt":
        content = [text("This is a simple prompt for testing.")]
    elif params.name == "test_prompt_with_arguments":
        content = [text(f"Prompt with arguments: arg1='{words['arg1']}', arg2='{words['arg2']}'")]
    elif params.name == "test_prompt_with_embedded_resource":
        held = embedded(words["resourceUri"], "text/plain", "Embedded resource content for testing.")
        content = [held, text("Please process the embedded resource above.")]
    elif params.name == "test_prompt_with_image":
        content = [IMAGE, text("Please analyze the image above.")]
    elif params.name == "test_input_required_result_prompt":
        if not given(params, "user_context"):
            question = form("What context should the prompt use?", context={"type": "string"})
            return more(ctx, {"user_context": question})
        content = [text("The context is here.")]
    else:
        raise MCPError(code=-32602, message=f"Unknown prompt: {params.name}")
    messages = [{"role": "user", "content": part} for part in content]
    return t.GetPromptResult.model_validate({"messages": messages})


async def complete(ctx, params):
    return t.CompleteResult.model_validate({"completion": {"values": ["paris", "park"], "total": 2, "hasMore": False}})


async def set_level(ctx, params):
    return t.EmptyResult()


SERVER = Server(
    "reference",
    version="1.0",
    on_list_tools=list_tools,
    on_call_tool=call_tool,
    on_list_resources=list_resources,
    on_list_resource_templates=list_templates,
    on_read_resource=read_resource,
    on_subscribe_resource=subscribe,
    on_unsubscribe_resource=subscribe,
    on_list_prompts=list_prompts,
    on_get_prompt=get_prompt,
    on_completion=complete,
    on_set_logging_level=set_level,
)

if __name__ == "__main__":
    uvicorn.run(SERVER.streamable_http_app(), host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")
