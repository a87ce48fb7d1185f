DROP TABLE audit_log;
DROP TABLE ended_sessions;
DROP TABLE api_tokens;
DROP TABLE users;
