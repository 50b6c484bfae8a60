-- What a row cost by kind, for the answer what is left of cost_pico; null: written before that was told.
ALTER TABLE ledger ADD COLUMN input_cost_pico BIGINT;
ALTER TABLE ledger ADD COLUMN cached_input_cost_pico BIGINT;
ALTER TABLE ledger ADD COLUMN unpriced BOOLEAN NOT NULL DEFAULT FALSE;

-- Sums of ledger rows by hour and by day of UTC, tenant, key and model. They outlive the rows.
-- bucket: the beginning, Unix microseconds. errors: status 400 and above. refused: never sent upstream.
-- unpriced: requests some of whose tokens have no price. Tokens of answers from the cache (cache hit or coalesced)
-- were not spent: they are in saved_tokens and nowhere else. Money is high * 1000000000 + low pico-dollars; neither
-- part of one row is above 10^10, so no sum leaves 64 bits. The costs by kind lack what rows without input_cost_pico
-- cost.

-- Busy rows are written many times: room for the new versions beside the old ones.
CREATE TABLE usage_hourly (
    bucket               BIGINT NOT NULL,
    tenant_id            TEXT COLLATE "C" NOT NULL,
    key_id               TEXT COLLATE "C" NOT NULL,
    model                TEXT COLLATE "C" NOT NULL,
    requests             BIGINT NOT NULL,
    errors               BIGINT NOT NULL,
    refused              BIGINT NOT NULL,
    unpriced             BIGINT NOT NULL,
    cache_hits           BIGINT NOT NULL,
    input_tokens         BIGINT NOT NULL,
    cached_input_tokens  BIGINT NOT NULL,
    output_tokens        BIGINT NOT NULL,
    reasoning_tokens     BIGINT NOT NULL,
    saved_tokens         BIGINT NOT NULL,
    cost_high            BIGINT NOT NULL,
    cost_low             BIGINT NOT NULL,
    input_cost_high      BIGINT NOT NULL,
    input_cost_low       BIGINT NOT NULL,
    cached_cost_high     BIGINT NOT NULL,
    cached_cost_low      BIGINT NOT NULL,
    output_cost_high     BIGINT NOT NULL,
    output_cost_low      BIGINT NOT NULL,
    PRIMARY KEY (bucket, tenant_id, key_id, model)
) WITH (fillfactor = 70);

CREATE INDEX usage_hourly_tenant ON usage_hourly (tenant_id, bucket);

CREATE TABLE usage_daily (
    bucket               BIGINT NOT NULL,
    tenant_id            TEXT COLLATE "C" NOT NULL,
    key_id               TEXT COLLATE "C" NOT NULL,
    model                TEXT COLLATE "C" NOT NULL,
    requests             BIGINT NOT NULL,
    errors               BIGINT NOT NULL,
    refused              BIGINT NOT NULL,
    unpriced             BIGINT NOT NULL,
    cache_hits           BIGINT NOT NULL,
    input_tokens         BIGINT NOT NULL,
    cached_input_tokens  BIGINT NOT NULL,
    output_tokens        BIGINT NOT NULL,
    reasoning_tokens     BIGINT NOT NULL,
    saved_tokens         BIGINT NOT NULL,
    cost_high            BIGINT NOT NULL,
    cost_low             BIGINT NOT NULL,
    input_cost_high      BIGINT NOT NULL,
    input_cost_low       BIGINT NOT NULL,
    cached_cost_high     BIGINT NOT NULL,
    cached_cost_low      BIGINT NOT NULL,
    output_cost_high     BIGINT NOT NULL,
    output_cost_low      BIGINT NOT NULL,
    PRIMARY KEY (bucket, tenant_id, key_id, model)
) WITH (fillfactor = 70);

CREATE INDEX usage_daily_tenant ON usage_daily (tenant_id, bucket);

INSERT INTO usage_hourly (bucket, tenant_id, key_id, model,
    requests, errors, refused, unpriced, cache_hits, input_tokens, cached_input_tokens, output_tokens, reasoning_tokens, saved_tokens,
    cost_high, cost_low, input_cost_high, input_cost_low, cached_cost_high, cached_cost_low, output_cost_high, output_cost_low)
SELECT ts - ts % 3600000000, tenant_id, key_id, model,
    COUNT(*),
    COUNT(*) FILTER (WHERE status >= 400),
    COUNT(*) FILTER (WHERE admission = 'rejected'),
    COUNT(*) FILTER (WHERE unpriced),
    COUNT(*) FILTER (WHERE cache IN ('hit', 'coalesced')),
    SUM(CASE WHEN cache IN ('hit', 'coalesced') THEN 0 ELSE input_tokens END)::BIGINT,
    SUM(CASE WHEN cache IN ('hit', 'coalesced') THEN 0 ELSE cached_input_tokens END)::BIGINT,
    SUM(CASE WHEN cache IN ('hit', 'coalesced') THEN 0 ELSE output_tokens END)::BIGINT,
    SUM(CASE WHEN cache IN ('hit', 'coalesced') THEN 0 ELSE reasoning_tokens END)::BIGINT,
    SUM(CASE WHEN cache IN ('hit', 'coalesced') THEN input_tokens + output_tokens ELSE 0 END)::BIGINT,
    SUM(COALESCE((cost_pico) / 1000000000, 0))::BIGINT,
    SUM(COALESCE((cost_pico) % 1000000000, 0))::BIGINT,
    SUM(COALESCE((input_cost_pico) / 1000000000, 0))::BIGINT,
    SUM(COALESCE((input_cost_pico) % 1000000000, 0))::BIGINT,
    SUM(COALESCE((cached_input_cost_pico) / 1000000000, 0))::BIGINT,
    SUM(COALESCE((cached_input_cost_pico) % 1000000000, 0))::BIGINT,
    SUM(COALESCE((cost_pico - input_cost_pico - cached_input_cost_pico) / 1000000000, 0))::BIGINT,
    SUM(COALESCE((cost_pico - input_cost_pico - cached_input_cost_pico) % 1000000000, 0))::BIGINT
FROM ledger GROUP BY 1, 2, 3, 4;

INSERT INTO usage_daily (bucket, tenant_id, key_id, model,
    requests, errors, refused, unpriced, cache_hits, input_tokens, cached_input_tokens, output_tokens, reasoning_tokens, saved_tokens,
    cost_high, cost_low, input_cost_high, input_cost_low, cached_cost_high, cached_cost_low, output_cost_high, output_cost_low)
SELECT bucket - bucket % 86400000000, tenant_id, key_id, model,
    SUM(requests)::BIGINT,
    SUM(errors)::BIGINT,
    SUM(refused)::BIGINT,
    SUM(unpriced)::BIGINT,
    SUM(cache_hits)::BIGINT,
    SUM(input_tokens)::BIGINT,
    SUM(cached_input_tokens)::BIGINT,
    SUM(output_tokens)::BIGINT,
    SUM(reasoning_tokens)::BIGINT,
    SUM(saved_tokens)::BIGINT,
    SUM(cost_high)::BIGINT,
    SUM(cost_low)::BIGINT,
    SUM(input_cost_high)::BIGINT,
    SUM(input_cost_low)::BIGINT,
    SUM(cached_cost_high)::BIGINT,
    SUM(cached_cost_low)::BIGINT,
    SUM(output_cost_high)::BIGINT,
    SUM(output_cost_low)::BIGINT
FROM usage_hourly GROUP BY 1, 2, 3, 4;

-- One row: rows of the ledger that arrived before are dropped, or about to be.
CREATE TABLE usage_retention (
    id        TEXT NOT NULL PRIMARY KEY,
    raw_since BIGINT NOT NULL
);

INSERT INTO usage_retention (id, raw_since) VALUES ('global', 0);

-- Filters of the listing. Where a column mostly has one value, only the others are indexed: the common one is found
-- along the time anyway.
CREATE INDEX ledger_key_ts ON ledger (key_id, ts);
CREATE INDEX ledger_model_ts ON ledger (model, ts);
CREATE INDEX ledger_errors ON ledger (ts, row_id, status) WHERE status >= 400;
CREATE INDEX ledger_status_ts ON ledger (status, ts) WHERE status >= 400;
-- An expression, so that it is taken where the query says the same: SQLite would go along all rows of the tenant.
CREATE INDEX ledger_tenant_errors ON ledger (('' || tenant_id), ts, row_id, status) WHERE status >= 400;
CREATE INDEX ledger_error_code_ts ON ledger (error_code, ts) WHERE error_code IS NOT NULL;
CREATE INDEX ledger_session_ts ON ledger (session_id, ts) WHERE session_id IS NOT NULL;
CREATE INDEX ledger_route_ts ON ledger (route, ts) WHERE route <> '/v1/chat/completions';
CREATE INDEX ledger_admission_ts ON ledger (admission, ts) WHERE admission <> 'fast';
CREATE INDEX ledger_cache_ts ON ledger (cache, ts) WHERE cache <> 'off';
CREATE INDEX ledger_usage_source_ts ON ledger (usage_source, ts) WHERE usage_source <> 'upstream';
