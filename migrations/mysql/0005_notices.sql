-- What somebody was told about a sender, so that several daemons tell it once in a period.
CREATE TABLE IF NOT EXISTS notices (
    ratelimit_id BIGINT UNSIGNED NOT NULL,
    event        VARCHAR(64) NOT NULL,
    period       BIGINT      NOT NULL,
    PRIMARY KEY (ratelimit_id, event, period),
    CONSTRAINT notices_ratelimit_id_foreign FOREIGN KEY (ratelimit_id)
        REFERENCES ratelimits (id) ON DELETE CASCADE ON UPDATE CASCADE
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4;
