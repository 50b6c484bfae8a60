"""Registers the real MCP servers with a running gateway, and makes the keys of the suites.

    python gateway.py ADMIN_URL ADMIN_TOKEN NAME=URL...

Prints shell assignments: MCP_KEY may do everything, MCP_ECHO_KEY the tool `echo` of the server `everything` alone.
"""

import json
import sys
import urllib.request


def post(path, body):
    request = urllib.request.Request(
        sys.argv[1] + "/api/v1" + path,
        data=json.dumps(body).encode(),
        headers={"authorization": f"Bearer {sys.argv[2]}", "content-type": "application/json"},
    )
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


def main():
    for pair in sys.argv[3:]:
        name, url = pair.split("=", 1)
        post("/mcp-servers", {"name": name, "upstream_url": url})
    tenant = post("/tenants", {"name": "mcp"})["id"]
    for variable, tools in [("MCP_KEY", None), ("MCP_ECHO_KEY", ["everything/echo"])]:
        key = post(f"/tenants/{tenant}/keys", {"name": variable, "allowed_tools": tools})
        print(f"{variable}={key['secret']}")


main()
