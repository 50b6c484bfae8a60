-- Same tables as in ../../sqlite. Columns that order a listing compare by bytes, as SQLite does.
-- Times are Unix microseconds, money is pico-dollars, ids are hyphenated UUIDs, lists and objects are JSON text.

CREATE TABLE tenant_groups (
    id         TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    version    BIGINT NOT NULL,
    name       TEXT COLLATE "C" NOT NULL UNIQUE,
    weight     INTEGER NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);

INSERT INTO tenant_groups (id, version, name, weight, created_at, updated_at)
VALUES ('00000000-0000-0000-0000-000000000001', 1, 'default', 100, 0, 0);

CREATE TABLE tenants (
    id                  TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    version             BIGINT NOT NULL,
    name                TEXT COLLATE "C" NOT NULL UNIQUE,
    weight              INTEGER NOT NULL,
    group_id            TEXT NOT NULL REFERENCES tenant_groups (id) ON DELETE RESTRICT,
    tokens_per_minute   BIGINT,
    requests_per_minute BIGINT,
    max_in_flight       BIGINT,
    max_queued          BIGINT,
    status              TEXT NOT NULL,
    allowed_models      TEXT,
    allowed_tools       TEXT,
    budgets             TEXT NOT NULL,
    brownout            TEXT,
    metadata            TEXT NOT NULL,
    created_at          BIGINT NOT NULL,
    updated_at          BIGINT NOT NULL
);

CREATE INDEX tenants_group_id ON tenants (group_id);

CREATE TABLE keys (
    id                  TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    version             BIGINT NOT NULL,
    tenant_id           TEXT NOT NULL REFERENCES tenants (id) ON DELETE CASCADE,
    name                TEXT COLLATE "C" NOT NULL,
    key_prefix          TEXT NOT NULL,
    key_hash            TEXT NOT NULL UNIQUE,
    previous_hash       TEXT UNIQUE,
    previous_until      BIGINT,
    disabled            BOOLEAN NOT NULL,
    expires_at          BIGINT,
    allowed_models      TEXT,
    allowed_tools       TEXT,
    tokens_per_minute   BIGINT,
    requests_per_minute BIGINT,
    max_in_flight       BIGINT,
    budgets             TEXT NOT NULL,
    created_at          BIGINT NOT NULL,
    updated_at          BIGINT NOT NULL
);

CREATE INDEX keys_tenant_id ON keys (tenant_id, id);

CREATE TABLE models (
    id                      TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    version                 BIGINT NOT NULL,
    model_name              TEXT COLLATE "C" NOT NULL UNIQUE,
    upstream_model          TEXT NOT NULL,
    api_base                TEXT,
    api_key_sealed          TEXT,
    input_price             BIGINT,
    cached_input_price      BIGINT,
    output_price            BIGINT,
    context_window          BIGINT,
    max_output_tokens       BIGINT,
    admission_weight        INTEGER NOT NULL,
    max_in_flight           BIGINT,
    enabled                 BOOLEAN NOT NULL,
    aliases                 TEXT NOT NULL,
    cache_enabled           BOOLEAN NOT NULL,
    cache_ttl_secs          BIGINT,
    request_timeout_secs    BIGINT,
    fallback_models         TEXT NOT NULL,
    upstream_headers_sealed TEXT,
    description             TEXT,
    created_at              BIGINT NOT NULL,
    updated_at              BIGINT NOT NULL
);

-- Every name a client may write, so that a name or alias belongs to one model only.
CREATE TABLE model_names (
    name     TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    model_id TEXT NOT NULL REFERENCES models (id) ON DELETE CASCADE
);

CREATE INDEX model_names_model_id ON model_names (model_id);

-- No foreign keys: a tenant may be deleted, its bills stay.
CREATE TABLE ledger (
    row_id              TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    request_id          TEXT NOT NULL,
    ts                  BIGINT NOT NULL,
    tenant_id           TEXT NOT NULL,
    key_id              TEXT NOT NULL,
    model               TEXT NOT NULL,
    upstream_model      TEXT NOT NULL,
    route               TEXT NOT NULL,
    stream              BOOLEAN NOT NULL,
    admission           TEXT NOT NULL,
    status              INTEGER NOT NULL,
    error_code          TEXT,
    cache               TEXT NOT NULL,
    estimated_tokens    BIGINT NOT NULL,
    input_tokens        BIGINT NOT NULL,
    cached_input_tokens BIGINT NOT NULL,
    output_tokens       BIGINT NOT NULL,
    reasoning_tokens    BIGINT NOT NULL,
    usage_source        TEXT NOT NULL,
    cost_pico           BIGINT NOT NULL,
    queue_ms            BIGINT NOT NULL,
    ttft_ms             BIGINT,
    total_ms            BIGINT NOT NULL,
    target_pod          TEXT,
    session_id          TEXT,
    mcp_server          TEXT,
    mcp_tool            TEXT,
    bytes_in            BIGINT NOT NULL,
    bytes_out           BIGINT NOT NULL
);

CREATE INDEX ledger_ts ON ledger (ts, row_id);
CREATE INDEX ledger_tenant_ts ON ledger (tenant_id, ts, row_id);
-- A client may choose a request id longer than a b-tree key may be.
CREATE INDEX ledger_request_id ON ledger USING hash (request_id);
