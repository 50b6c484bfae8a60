-- Same table as in ../../sqlite.
-- Which records were changed, in the order of the commits: other replicas read what is new to them.

CREATE TABLE registry_log (
    version   BIGINT NOT NULL PRIMARY KEY,
    kind      TEXT COLLATE "C" NOT NULL,
    object_id TEXT COLLATE "C" NOT NULL
);
