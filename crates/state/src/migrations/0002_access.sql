-- Users, API tokens, sessions that were ended early, and the audit log. Drawn in docs/formats/records.md.

CREATE TABLE users (
    id            BLOB    NOT NULL PRIMARY KEY,
    name          TEXT    NOT NULL UNIQUE,
    role          TEXT    NOT NULL CHECK (role IN ('viewer', 'operator', 'admin')),
    password      TEXT    NOT NULL,
    is_disabled   INTEGER NOT NULL CHECK (is_disabled IN (0, 1)),
    created_at    INTEGER NOT NULL,
    sessions_from INTEGER NOT NULL
) STRICT;

-- The digest is SHA-256 of the token's value; the value itself stands nowhere.
CREATE TABLE api_tokens (
    id           BLOB    NOT NULL PRIMARY KEY,
    name         TEXT    NOT NULL UNIQUE,
    role         TEXT    NOT NULL CHECK (role IN ('viewer', 'operator', 'admin')),
    digest       BLOB    NOT NULL UNIQUE CHECK (length(digest) = 32),
    created_by   TEXT    NOT NULL,
    created_at   INTEGER NOT NULL,
    expires_at   INTEGER,
    last_used_at INTEGER
) STRICT;

CREATE TABLE ended_sessions (
    id         BLOB    NOT NULL PRIMARY KEY,
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX ended_sessions_by_end ON ended_sessions (expires_at);

CREATE TABLE audit_log (
    id       BLOB    NOT NULL PRIMARY KEY,
    at       INTEGER NOT NULL,
    actor    TEXT    NOT NULL,
    role     TEXT    CHECK (role IN ('viewer', 'operator', 'admin')),
    action   TEXT    NOT NULL,
    subject  TEXT    NOT NULL,
    outcome  TEXT    NOT NULL CHECK (outcome IN ('done', 'refused', 'failed')),
    client   TEXT    NOT NULL,
    trace_id TEXT    NOT NULL,
    detail   TEXT    NOT NULL
) STRICT;

CREATE INDEX audit_log_by_actor ON audit_log (actor, id);
CREATE INDEX audit_log_by_action ON audit_log (action, id);
CREATE INDEX audit_log_by_time ON audit_log (at);
