-- Same table as in ../../sqlite.
-- Which records were changed, in the order of the commits: other replicas read what is new to them. The mark tells an
-- entry from another one that has its version after the database lost its last commits, or was restored.

CREATE TABLE registry_log (
    version   BIGINT NOT NULL PRIMARY KEY,
    kind      TEXT COLLATE "C" NOT NULL,
    object_id TEXT COLLATE "C" NOT NULL,
    mark      TEXT COLLATE "C" NOT NULL DEFAULT gen_random_uuid()::text
);
