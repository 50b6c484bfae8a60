-- Same table as in ../../sqlite.
-- MCP servers that tenants may call. NULL: unlimited, or the gateway's default.

CREATE TABLE mcp_servers (
    id                  TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    version             BIGINT NOT NULL,
    name                TEXT COLLATE "C" NOT NULL UNIQUE,
    upstream_url        TEXT NOT NULL,
    auth_header_sealed  TEXT,
    enabled             BOOLEAN NOT NULL,
    timeout_secs        BIGINT,
    requests_per_minute BIGINT,
    description         TEXT,
    created_at          BIGINT NOT NULL,
    updated_at          BIGINT NOT NULL
);
