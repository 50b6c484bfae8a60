-- Same table as in ../../sqlite.
-- What an operator set through the management API; one row. NULL: the configuration says it.

CREATE TABLE capacity (
    id            TEXT   NOT NULL PRIMARY KEY,
    version       BIGINT NOT NULL,
    max_in_flight BIGINT,
    created_at    BIGINT NOT NULL,
    updated_at    BIGINT NOT NULL
);

INSERT INTO capacity (id, version, max_in_flight, created_at, updated_at)
VALUES ('global', 1, NULL, 0, 0);
