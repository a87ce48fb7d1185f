-- Alert management: what an alert is about, who sees to it, what it belongs to; silences, incidents with their
-- timeline, overrides of schedules. Drawn in docs/formats/records.md.

ALTER TABLE alerts ADD COLUMN category TEXT NOT NULL DEFAULT 'system'
    CHECK (category IN ('system', 'business', 'performance', 'security', 'capacity'));
ALTER TABLE alerts ADD COLUMN assigned TEXT;
-- The beginning of the name within, for the index.
ALTER TABLE alerts ADD COLUMN assigned_to TEXT;
ALTER TABLE alerts ADD COLUMN external TEXT;
ALTER TABLE alerts ADD COLUMN incident BLOB;
ALTER TABLE alerts ADD COLUMN flaps INTEGER NOT NULL DEFAULT 0;

UPDATE alerts SET category = lower(json_extract(labels, '$.category'))
WHERE CASE WHEN json_valid(labels) THEN lower(json_extract(labels, '$.category')) END
    IN ('business', 'performance', 'security', 'capacity');

CREATE INDEX alerts_by_category ON alerts (category, state, level, id);
-- With what is often wanted besides, so that what does not fit is passed over within the index.
CREATE INDEX alerts_by_assignee ON alerts (assigned_to, id, state, level, category) WHERE assigned_to IS NOT NULL;
CREATE INDEX alerts_by_incident ON alerts (incident, id) WHERE incident IS NOT NULL;

ALTER TABLE alert_groups ADD COLUMN escalation TEXT;

CREATE TABLE silences (
    id                BLOB    NOT NULL PRIMARY KEY,
    matchers          TEXT    NOT NULL,
    starts_at         INTEGER NOT NULL,
    ends_at           INTEGER NOT NULL,
    updated_at        INTEGER NOT NULL,
    created_by        TEXT    NOT NULL,
    comment           TEXT    NOT NULL,
    recurs            TEXT    NOT NULL,
    is_until_resolved INTEGER NOT NULL CHECK (is_until_resolved IN (0, 1))
) STRICT;

CREATE INDEX silences_by_end ON silences (ends_at);

CREATE TABLE incidents (
    id           BLOB    NOT NULL PRIMARY KEY,
    title        TEXT    NOT NULL,
    is_renamed   INTEGER NOT NULL CHECK (is_renamed IN (0, 1)),
    is_held_open INTEGER NOT NULL CHECK (is_held_open IN (0, 1)),
    state        TEXT    NOT NULL CHECK (state IN ('open', 'resolved')),
    level        TEXT    NOT NULL CHECK (level IN ('critical', 'high', 'medium', 'low')),
    opened_at    INTEGER NOT NULL,
    resolved_at  INTEGER,
    updated_at   INTEGER NOT NULL,
    moved_at     INTEGER NOT NULL,
    owner        TEXT,
    -- The beginning of the owner's name, for the index.
    owner_key    TEXT,
    labels       TEXT    NOT NULL,
    alerts       TEXT    NOT NULL,
    alert_count  INTEGER NOT NULL,
    hints        TEXT    NOT NULL
) STRICT;

CREATE INDEX incidents_by_state ON incidents (state, level, id);
-- Most incidents are one alert that stands alone; lists leave those out.
CREATE INDEX incidents_of_several ON incidents (state, level, id) WHERE alert_count >= 2;
CREATE INDEX incidents_by_owner ON incidents (owner_key, id) WHERE owner_key IS NOT NULL;
CREATE INDEX incidents_by_beginning ON incidents (opened_at);
CREATE INDEX incidents_by_end ON incidents (resolved_at) WHERE resolved_at IS NOT NULL;

CREATE TABLE incident_events (
    seq      INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    id       BLOB    NOT NULL UNIQUE,
    incident BLOB    NOT NULL REFERENCES incidents (id) ON DELETE CASCADE,
    at       INTEGER NOT NULL,
    actor    TEXT,
    kind     TEXT    NOT NULL
) STRICT;

CREATE INDEX incident_events_by_incident ON incident_events (incident, seq);

CREATE TABLE shift_overrides (
    id         BLOB    NOT NULL PRIMARY KEY,
    schedule   TEXT    NOT NULL,
    receiver   TEXT    NOT NULL,
    starts_at  INTEGER NOT NULL,
    ends_at    INTEGER NOT NULL,
    created_by TEXT    NOT NULL,
    created_at INTEGER NOT NULL,
    comment    TEXT    NOT NULL
) STRICT;

CREATE INDEX shift_overrides_by_end ON shift_overrides (ends_at);

-- Whom open messages speak of, and where they go: a younger message about the same alert must not overtake them, whatever
-- group either is of. Beside the history, which may be long.
CREATE TABLE open_alerts (
    alert        BLOB    NOT NULL,
    notification INTEGER NOT NULL REFERENCES notifications (seq) ON DELETE CASCADE,
    channel      TEXT    NOT NULL,
    PRIMARY KEY (alert, notification)
) STRICT, WITHOUT ROWID;

CREATE INDEX open_alerts_by_notification ON open_alerts (notification);

INSERT INTO open_alerts (alert, notification, channel)
SELECT t.alert, t.notification, n.channel
FROM notifications n JOIN notification_alerts t ON t.notification = n.seq WHERE n.settled_at IS NULL;
