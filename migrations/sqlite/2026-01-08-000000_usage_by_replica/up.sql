-- What each replica wrote of a tenant and its key by UTC day: replicas that share budgets know by it what others have used.
-- Of processes that share nothing there are no rows. Same table as in ../../postgres.

CREATE TABLE usage_by_replica (
    tenant_id TEXT NOT NULL,
    key_id    TEXT NOT NULL,
    replica   TEXT NOT NULL,
    bucket    INTEGER NOT NULL,
    tokens    INTEGER NOT NULL,
    cost_high INTEGER NOT NULL,
    cost_low  INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, key_id, replica, bucket)
);
