-- Same table as in ../../sqlite.
-- What each replica wrote of a tenant and its key by UTC day.

CREATE TABLE usage_by_replica (
    tenant_id TEXT COLLATE "C" NOT NULL,
    key_id    TEXT COLLATE "C" NOT NULL,
    replica   TEXT COLLATE "C" NOT NULL,
    bucket    BIGINT NOT NULL,
    tokens    BIGINT NOT NULL,
    cost_high BIGINT NOT NULL,
    cost_low  BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, key_id, replica, bucket)
);
