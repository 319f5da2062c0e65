-- Facts about the database itself: when counters were last reset, the last proof that it takes writes.
CREATE TABLE IF NOT EXISTS meta (
    name  VARCHAR(64)  NOT NULL PRIMARY KEY,
    value VARCHAR(255) NOT NULL
);
