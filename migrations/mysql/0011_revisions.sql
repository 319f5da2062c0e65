-- A number per table that the daemons keep in memory, raised by each change of it.
CREATE TABLE IF NOT EXISTS revisions (
    name   VARCHAR(64) NOT NULL PRIMARY KEY,
    number BIGINT      NOT NULL DEFAULT 0
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4;
