-- Who may call the management API besides the root token; only digests of the secrets.

CREATE TABLE admin_tokens (
    id         TEXT    NOT NULL PRIMARY KEY,
    name       TEXT    NOT NULL UNIQUE,
    role       TEXT    NOT NULL,
    token_hash TEXT    NOT NULL UNIQUE,
    created_at INTEGER NOT NULL
) STRICT;

-- One row for each change made through the management API. No foreign keys: what is deleted keeps its history.
CREATE TABLE audit (
    id          TEXT    NOT NULL PRIMARY KEY,
    ts          INTEGER NOT NULL,
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
) STRICT;

CREATE INDEX audit_ts ON audit (ts, id);
CREATE INDEX audit_object ON audit (object_id, ts, id);

-- When a key was last used, to the minute. Beside the keys: a use is no change of the key.
CREATE TABLE key_uses (
    key_id       TEXT    NOT NULL PRIMARY KEY REFERENCES keys (id) ON DELETE CASCADE,
    last_used_at INTEGER NOT NULL
) STRICT;
