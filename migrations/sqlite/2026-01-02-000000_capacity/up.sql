-- What an operator set through the management API; one row. NULL: the configuration says it.

CREATE TABLE capacity (
    id            TEXT    NOT NULL PRIMARY KEY,
    version       INTEGER NOT NULL,
    max_in_flight INTEGER,
    created_at    INTEGER NOT NULL,
    updated_at    INTEGER NOT NULL
) STRICT;

INSERT INTO capacity (id, version, max_in_flight, created_at, updated_at)
VALUES ('global', 1, NULL, 0, 0);
