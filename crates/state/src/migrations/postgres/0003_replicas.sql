-- Which replica leads. A lease that is renewed keeps its epoch, one that is taken over raises it: the epoch stands in a
-- unique index, so that taking it over waits for transactions that hold the row by its key, and renewing it does not.
-- `expires_at` is in milliseconds of the server's clock.

CREATE TABLE replica_lease (
    id         BIGINT NOT NULL PRIMARY KEY CHECK (id = 1),
    epoch      BIGINT NOT NULL,
    holder     TEXT   NOT NULL,
    address    TEXT   NOT NULL,
    expires_at BIGINT NOT NULL,
    UNIQUE (id, epoch)
);
