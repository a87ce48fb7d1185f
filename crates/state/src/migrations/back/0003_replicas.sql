DROP INDEX alerts_by_end;
CREATE INDEX alerts_by_end ON alerts (resolved_at) WHERE resolved_at IS NOT NULL;

DROP TABLE open_mark;
