-- How often a sender came over a limit: once per limit and window (seconds since 1970). STRIKES block who does so again and again.
CREATE TABLE IF NOT EXISTS strikes (
    account    VARCHAR(255) NOT NULL,
    limit_name VARCHAR(128) NOT NULL,
    struck_at  BIGINT       NOT NULL,
    told       SMALLINT     NOT NULL DEFAULT 0,
    PRIMARY KEY (account, limit_name, struck_at)
);
CREATE INDEX IF NOT EXISTS strikes_told_index ON strikes (told);
