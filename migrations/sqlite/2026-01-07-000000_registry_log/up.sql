-- Which records were changed, in the order of the commits: other replicas read what is new to them. Nothing is written
-- here: a SQLite database has one obleth.

CREATE TABLE registry_log (
    version   INTEGER NOT NULL PRIMARY KEY,
    kind      TEXT    NOT NULL,
    object_id TEXT    NOT NULL,
    mark      TEXT    NOT NULL DEFAULT ''
) STRICT;
