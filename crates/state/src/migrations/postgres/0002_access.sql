-- Users, API tokens, sessions that were ended early, and the audit log. Drawn in docs/formats/records.md.

CREATE TABLE users (
    id            BYTEA    NOT NULL PRIMARY KEY,
    name          TEXT COLLATE "C" NOT NULL UNIQUE,
    role          TEXT    NOT NULL CHECK (role IN ('viewer', 'operator', 'admin')),
    password      TEXT    NOT NULL,
    is_disabled   BIGINT NOT NULL CHECK (is_disabled IN (0, 1)),
    created_at    BIGINT NOT NULL,
    sessions_from BIGINT NOT NULL
);

-- The digest is SHA-256 of the token's value; the value itself stands nowhere.
CREATE TABLE api_tokens (
    id           BYTEA    NOT NULL PRIMARY KEY,
    name         TEXT COLLATE "C" NOT NULL UNIQUE,
    role         TEXT    NOT NULL CHECK (role IN ('viewer', 'operator', 'admin')),
    digest       BYTEA    NOT NULL UNIQUE CHECK (length(digest) = 32),
    created_by   TEXT    NOT NULL,
    created_at   BIGINT NOT NULL,
    expires_at   BIGINT,
    last_used_at BIGINT 
);

CREATE TABLE ended_sessions (
    id         BYTEA    NOT NULL PRIMARY KEY,
    expires_at BIGINT NOT NULL
);

CREATE INDEX ended_sessions_by_end ON ended_sessions (expires_at);

CREATE TABLE audit_log (
    id       BYTEA    NOT NULL PRIMARY KEY,
    at       BIGINT NOT NULL,
    actor    TEXT    NOT NULL,
    role     TEXT    CHECK (role IN ('viewer', 'operator', 'admin')),
    action   TEXT    NOT NULL,
    subject  TEXT    NOT NULL,
    outcome  TEXT    NOT NULL CHECK (outcome IN ('done', 'refused', 'failed')),
    client   TEXT    NOT NULL,
    trace_id TEXT    NOT NULL,
    detail   TEXT    NOT NULL
);

CREATE INDEX audit_log_by_actor ON audit_log (actor, id);
CREATE INDEX audit_log_by_action ON audit_log (action, id);
CREATE INDEX audit_log_by_time ON audit_log (at);
