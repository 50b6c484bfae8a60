-- MCP servers that tenants may call. NULL: unlimited, or the gateway's default.

CREATE TABLE mcp_servers (
    id                  TEXT    NOT NULL PRIMARY KEY,
    version             INTEGER NOT NULL,
    name                TEXT    NOT NULL UNIQUE,
    upstream_url        TEXT    NOT NULL,
    auth_header_sealed  TEXT,
    enabled             INTEGER NOT NULL CHECK (enabled IN (0, 1)),
    timeout_secs        INTEGER,
    requests_per_minute INTEGER,
    description         TEXT,
    created_at          INTEGER NOT NULL,
    updated_at          INTEGER NOT NULL
) STRICT;
