-- Rule groups that are made by API, with their history; and since when a condition's data is missing. Drawn in
-- docs/formats/records.md.

CREATE TABLE rule_groups (
    id         BLOB    NOT NULL PRIMARY KEY,
    name       TEXT    NOT NULL UNIQUE,
    version    INTEGER NOT NULL,
    definition TEXT    NOT NULL,
    comment    TEXT    NOT NULL,
    created_by TEXT    NOT NULL,
    created_at INTEGER NOT NULL,
    updated_by TEXT    NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT;

-- Deleted groups stand here alone, the deletion as their last version.
CREATE TABLE rule_group_versions (
    id          BLOB    NOT NULL,
    version     INTEGER NOT NULL,
    name        TEXT    NOT NULL,
    definition  TEXT    NOT NULL,
    comment     TEXT    NOT NULL,
    author      TEXT    NOT NULL,
    at          INTEGER NOT NULL,
    is_deletion INTEGER NOT NULL CHECK (is_deletion IN (0, 1)),
    PRIMARY KEY (id, version)
) STRICT, WITHOUT ROWID;

CREATE INDEX rule_group_versions_by_deletion ON rule_group_versions (at, id) WHERE is_deletion = 1;

ALTER TABLE alert_clocks ADD COLUMN unknown_since INTEGER;
