-- What was let through, per sender and minute (minutes since 1970, UTC): sliding windows, top and history read it.
CREATE TABLE IF NOT EXISTS usage (
    ratelimit_id BIGINT NOT NULL REFERENCES ratelimits (id) ON DELETE CASCADE ON UPDATE CASCADE,
    minute       BIGINT NOT NULL,
    messages     BIGINT NOT NULL DEFAULT 0,
    recipients   BIGINT NOT NULL DEFAULT 0,
    bytes        BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (ratelimit_id, minute)
);
CREATE INDEX IF NOT EXISTS usage_minute_index ON usage (minute);
