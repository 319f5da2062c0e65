-- What was let through, per sender and minute (minutes since 1970, UTC): sliding windows, top and history read it.
CREATE TABLE IF NOT EXISTS `usage` (
    ratelimit_id BIGINT UNSIGNED NOT NULL,
    minute       BIGINT NOT NULL,
    messages     BIGINT NOT NULL DEFAULT 0,
    recipients   BIGINT NOT NULL DEFAULT 0,
    bytes        BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (ratelimit_id, minute),
    KEY usage_minute_index (minute),
    CONSTRAINT usage_ratelimit_id_foreign FOREIGN KEY (ratelimit_id)
        REFERENCES ratelimits (id) ON DELETE CASCADE ON UPDATE CASCADE
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4;
