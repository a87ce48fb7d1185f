ALTER TABLE alert_clocks DROP COLUMN unknown_since;

DROP TABLE rule_group_versions;
DROP TABLE rule_groups;
