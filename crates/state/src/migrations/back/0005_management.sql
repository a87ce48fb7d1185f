DROP TABLE open_alerts;
DROP TABLE shift_overrides;
DROP TABLE incident_events;
DROP TABLE incidents;
DROP TABLE silences;

ALTER TABLE alert_groups DROP COLUMN escalation;

-- The older program knows one reason for not telling, and fewer kinds of events.
UPDATE alerts SET suppressed = CASE WHEN suppressed LIKE '["limit"%' THEN '["limit"]' ELSE '[]' END
WHERE suppressed NOT IN ('[]', '["limit"]');
DELETE FROM alert_events
WHERE kind LIKE '{"kind":"assigned"%' OR kind LIKE '{"kind":"noted"%' OR kind LIKE '{"kind":"escalated"%'
    OR kind LIKE '{"kind":"flapping"%' OR kind LIKE '{"kind":"steady"%' OR kind LIKE '{"kind":"joined_incident"%'
    OR (kind LIKE '{"kind":"suppressed"%' AND kind <> '{"kind":"suppressed","by":"limit"}')
    OR (kind LIKE '{"kind":"unsuppressed"%' AND kind <> '{"kind":"unsuppressed","by":"limit"}');

DROP INDEX alerts_by_incident;
DROP INDEX alerts_by_assignee;
DROP INDEX alerts_by_category;
ALTER TABLE alerts DROP COLUMN flaps;
ALTER TABLE alerts DROP COLUMN incident;
ALTER TABLE alerts DROP COLUMN external;
ALTER TABLE alerts DROP COLUMN assigned_to;
ALTER TABLE alerts DROP COLUMN assigned;
ALTER TABLE alerts DROP COLUMN category;
