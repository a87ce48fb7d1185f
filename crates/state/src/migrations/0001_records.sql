-- Alerts, their events, clocks and groups, and the outbox. Drawn in docs/formats/records.md.
-- Identifiers are the 16 bytes of a UUID, moments are milliseconds since the Unix epoch, 64-bit hashes are
-- stored as the signed integer of the same bits.

CREATE TABLE alerts (
    id           BLOB    NOT NULL PRIMARY KEY,
    fingerprint  INTEGER NOT NULL,
    name         TEXT    NOT NULL,
    severity     TEXT    NOT NULL,
    state        TEXT    NOT NULL CHECK (state IN ('pending', 'firing', 'resolved')),
    level        TEXT    NOT NULL CHECK (level IN ('critical', 'high', 'medium', 'low')),
    has_levels   INTEGER NOT NULL CHECK (has_levels IN (0, 1)),
    value        REAL,
    active_at    INTEGER NOT NULL,
    fired_at     INTEGER,
    resolved_at  INTEGER,
    updated_at   INTEGER NOT NULL,
    group_name   TEXT    NOT NULL,
    expr         TEXT    NOT NULL,
    labels       TEXT    NOT NULL,
    annotations  TEXT    NOT NULL,
    rules        TEXT    NOT NULL,
    acknowledged TEXT,
    suppressed   TEXT    NOT NULL
) STRICT;

CREATE INDEX alerts_by_state ON alerts (state, id);
CREATE INDEX alerts_by_level ON alerts (level, id);
CREATE INDEX alerts_by_state_level ON alerts (state, level, id);
CREATE INDEX alerts_by_severity ON alerts (severity, id);
CREATE INDEX alerts_by_fingerprint ON alerts (fingerprint, id);
CREATE INDEX alerts_by_end ON alerts (resolved_at) WHERE resolved_at IS NOT NULL;
CREATE INDEX alerts_acknowledged ON alerts (id) WHERE acknowledged IS NOT NULL;

-- One row a label: the hash of the pair, so that a row is small. Whoever reads compares the text as well.
CREATE TABLE alert_labels (
    pair  INTEGER NOT NULL,
    alert BLOB    NOT NULL,
    PRIMARY KEY (pair, alert)
) STRICT, WITHOUT ROWID;

CREATE TABLE alert_events (
    seq    INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    id     BLOB    NOT NULL UNIQUE,
    alert  BLOB    NOT NULL REFERENCES alerts (id) ON DELETE CASCADE,
    at     INTEGER NOT NULL,
    actor  TEXT,
    kind   TEXT    NOT NULL
) STRICT;

CREATE INDEX alert_events_by_alert ON alert_events (alert, seq);

CREATE TABLE alert_clocks (
    rule         INTEGER NOT NULL,
    fingerprint  INTEGER NOT NULL,
    condition    INTEGER NOT NULL,
    level        TEXT    NOT NULL CHECK (level IN ('critical', 'high', 'medium', 'low')),
    active_at    INTEGER NOT NULL,
    fired_at     INTEGER,
    seen_at      INTEGER NOT NULL,
    missed_since INTEGER,
    set_aside_at INTEGER,
    PRIMARY KEY (rule, fingerprint, condition)
) STRICT, WITHOUT ROWID;

CREATE TABLE alert_groups (
    key        TEXT    NOT NULL PRIMARY KEY,
    labels     TEXT    NOT NULL,
    receiver   TEXT    NOT NULL,
    flush_at   INTEGER NOT NULL,
    is_flushed INTEGER NOT NULL CHECK (is_flushed IN (0, 1)),
    alerts     TEXT    NOT NULL,
    told       TEXT    NOT NULL
) STRICT;

CREATE TABLE lifecycle (
    id           INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    heartbeat_at INTEGER NOT NULL
) STRICT;

CREATE TABLE notifications (
    seq         INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    id          BLOB    NOT NULL UNIQUE,
    group_key   TEXT    NOT NULL,
    receiver    TEXT    NOT NULL,
    channel     TEXT    NOT NULL,
    created_at  INTEGER NOT NULL,
    due_at      INTEGER NOT NULL,
    deadline_at INTEGER NOT NULL,
    attempts    INTEGER NOT NULL,
    status      TEXT    NOT NULL CHECK (status IN ('waiting', 'sending', 'delivered', 'failed')),
    settled_at  INTEGER,
    content     TEXT    NOT NULL
) STRICT;

CREATE INDEX notifications_by_status ON notifications (status, seq);
CREATE INDEX notifications_open_by_due ON notifications (due_at, seq) WHERE settled_at IS NULL;
CREATE INDEX notifications_open_by_way ON notifications (group_key, receiver, channel, seq) WHERE settled_at IS NULL;
CREATE INDEX notifications_by_settlement ON notifications (settled_at) WHERE settled_at IS NOT NULL;

CREATE TABLE notification_alerts (
    alert        BLOB    NOT NULL,
    notification INTEGER NOT NULL REFERENCES notifications (seq) ON DELETE CASCADE,
    PRIMARY KEY (alert, notification)
) STRICT, WITHOUT ROWID;

CREATE INDEX notification_alerts_by_notification ON notification_alerts (notification);

CREATE TABLE delivery_attempts (
    notification  BLOB    NOT NULL REFERENCES notifications (id) ON DELETE CASCADE,
    number        INTEGER NOT NULL,
    started_at    INTEGER NOT NULL,
    finished_at   INTEGER,
    outcome       TEXT    NOT NULL CHECK (outcome IN ('started', 'delivered', 'retry', 'refused', 'uncertain')),
    provider_code INTEGER NOT NULL,
    detail        TEXT    NOT NULL,
    PRIMARY KEY (notification, number)
) STRICT, WITHOUT ROWID;
