-- Same tables as in ../../sqlite. Columns that order a listing compare by bytes, as SQLite does.
-- Who may call the management API besides the root token; only digests of the secrets.

CREATE TABLE admin_tokens (
    id         TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    name       TEXT COLLATE "C" NOT NULL UNIQUE,
    role       TEXT    NOT NULL,
    token_hash TEXT    NOT NULL UNIQUE,
    created_at BIGINT NOT NULL
);

-- One row for each change made through the management API. No foreign keys: what is deleted keeps its history.
CREATE TABLE audit (
    id          TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    ts          BIGINT NOT NULL,
    actor_id    TEXT    NOT NULL,
    actor_name  TEXT    NOT NULL,
    method      TEXT    NOT NULL,
    action      TEXT    NOT NULL,
    kind        TEXT    NOT NULL,
    object_id   TEXT    NOT NULL,
    object_name TEXT    NOT NULL,
    before_json TEXT,
    after_json  TEXT,
    request_id  TEXT    NOT NULL,
    address     TEXT
);

CREATE INDEX audit_ts ON audit (ts, id);
CREATE INDEX audit_object ON audit (object_id, ts, id);

-- When a key was last used, to the minute. Beside the keys: a use is no change of the key.
CREATE TABLE key_uses (
    key_id       TEXT    NOT NULL PRIMARY KEY REFERENCES keys (id) ON DELETE CASCADE,
    last_used_at BIGINT NOT NULL
);
