DROP TABLE replica_lease;
