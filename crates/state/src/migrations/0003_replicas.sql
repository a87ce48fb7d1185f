-- How the file was last opened, so that a copy of files that were in use is noticed; and an order for cleaning that
-- never changes. The engine for several replicas keeps their lease in this step.

-- `inode` and `born_at` (nanoseconds) name the file; a copy has others.
CREATE TABLE open_mark (
    id      INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    inode   INTEGER NOT NULL,
    born_at INTEGER NOT NULL,
    is_open INTEGER NOT NULL CHECK (is_open IN (0, 1))
) STRICT;

DROP INDEX alerts_by_end;
CREATE INDEX alerts_by_end ON alerts (resolved_at, id) WHERE resolved_at IS NOT NULL;
