-- Times are Unix microseconds, money is pico-dollars, ids are hyphenated UUIDs, lists and objects are JSON text.

CREATE TABLE tenant_groups (
    id         TEXT    NOT NULL PRIMARY KEY,
    version    INTEGER NOT NULL,
    name       TEXT    NOT NULL UNIQUE,
    weight     INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT;

INSERT INTO tenant_groups (id, version, name, weight, created_at, updated_at)
VALUES ('00000000-0000-0000-0000-000000000001', 1, 'default', 100, 0, 0);

CREATE TABLE tenants (
    id                  TEXT    NOT NULL PRIMARY KEY,
    version             INTEGER NOT NULL,
    name                TEXT    NOT NULL UNIQUE,
    weight              INTEGER NOT NULL,
    group_id            TEXT    NOT NULL REFERENCES tenant_groups (id) ON DELETE RESTRICT,
    tokens_per_minute   INTEGER,
    requests_per_minute INTEGER,
    max_in_flight       INTEGER,
    max_queued          INTEGER,
    status              TEXT    NOT NULL,
    allowed_models      TEXT,
    allowed_tools       TEXT,
    budgets             TEXT    NOT NULL,
    brownout            TEXT,
    metadata            TEXT    NOT NULL,
    created_at          INTEGER NOT NULL,
    updated_at          INTEGER NOT NULL
) STRICT;

CREATE INDEX tenants_group_id ON tenants (group_id);

CREATE TABLE keys (
    id                  TEXT    NOT NULL PRIMARY KEY,
    version             INTEGER NOT NULL,
    tenant_id           TEXT    NOT NULL REFERENCES tenants (id) ON DELETE CASCADE,
    name                TEXT    NOT NULL,
    key_prefix          TEXT    NOT NULL,
    key_hash            TEXT    NOT NULL UNIQUE,
    previous_hash       TEXT    UNIQUE,
    previous_until      INTEGER,
    disabled            INTEGER NOT NULL CHECK (disabled IN (0, 1)),
    expires_at          INTEGER,
    allowed_models      TEXT,
    allowed_tools       TEXT,
    tokens_per_minute   INTEGER,
    requests_per_minute INTEGER,
    max_in_flight       INTEGER,
    budgets             TEXT    NOT NULL,
    created_at          INTEGER NOT NULL,
    updated_at          INTEGER NOT NULL
) STRICT;

CREATE INDEX keys_tenant_id ON keys (tenant_id, id);

CREATE TABLE models (
    id                      TEXT    NOT NULL PRIMARY KEY,
    version                 INTEGER NOT NULL,
    model_name              TEXT    NOT NULL UNIQUE,
    upstream_model          TEXT    NOT NULL,
    api_base                TEXT,
    api_key_sealed          TEXT,
    input_price             INTEGER,
    cached_input_price      INTEGER,
    output_price            INTEGER,
    context_window          INTEGER,
    max_output_tokens       INTEGER,
    admission_weight        INTEGER NOT NULL,
    max_in_flight           INTEGER,
    enabled                 INTEGER NOT NULL CHECK (enabled IN (0, 1)),
    aliases                 TEXT    NOT NULL,
    cache_enabled           INTEGER NOT NULL CHECK (cache_enabled IN (0, 1)),
    cache_ttl_secs          INTEGER,
    request_timeout_secs    INTEGER,
    fallback_models         TEXT    NOT NULL,
    upstream_headers_sealed TEXT,
    description             TEXT,
    created_at              INTEGER NOT NULL,
    updated_at              INTEGER NOT NULL
) STRICT;

-- Every name a client may write, so that a name or alias belongs to one model only.
CREATE TABLE model_names (
    name     TEXT NOT NULL PRIMARY KEY,
    model_id TEXT NOT NULL REFERENCES models (id) ON DELETE CASCADE
) STRICT;

CREATE INDEX model_names_model_id ON model_names (model_id);

-- No foreign keys: a tenant may be deleted, its bills stay.
CREATE TABLE ledger (
    row_id              TEXT    NOT NULL PRIMARY KEY,
    request_id          TEXT    NOT NULL,
    ts                  INTEGER NOT NULL,
    tenant_id           TEXT    NOT NULL,
    key_id              TEXT    NOT NULL,
    model               TEXT    NOT NULL,
    upstream_model      TEXT    NOT NULL,
    route               TEXT    NOT NULL,
    stream              INTEGER NOT NULL CHECK (stream IN (0, 1)),
    admission           TEXT    NOT NULL,
    status              INTEGER NOT NULL,
    error_code          TEXT,
    cache               TEXT    NOT NULL,
    estimated_tokens    INTEGER NOT NULL,
    input_tokens        INTEGER NOT NULL,
    cached_input_tokens INTEGER NOT NULL,
    output_tokens       INTEGER NOT NULL,
    reasoning_tokens    INTEGER NOT NULL,
    usage_source        TEXT    NOT NULL,
    cost_pico           INTEGER NOT NULL,
    queue_ms            INTEGER NOT NULL,
    ttft_ms             INTEGER,
    total_ms            INTEGER NOT NULL,
    target_pod          TEXT,
    session_id          TEXT,
    mcp_server          TEXT,
    mcp_tool            TEXT,
    bytes_in            INTEGER NOT NULL,
    bytes_out           INTEGER NOT NULL
) STRICT;

CREATE INDEX ledger_ts ON ledger (ts, row_id);
CREATE INDEX ledger_tenant_ts ON ledger (tenant_id, ts, row_id);
CREATE INDEX ledger_request_id ON ledger (request_id);
