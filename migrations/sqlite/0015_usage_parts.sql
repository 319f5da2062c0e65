-- Of what usage has in a minute, what was held and not released, and what came from networks that were new to the sender.
CREATE TABLE IF NOT EXISTS usage_parts (
    ratelimit_id    BIGINT NOT NULL REFERENCES ratelimits (id) ON DELETE CASCADE ON UPDATE CASCADE,
    minute          BIGINT NOT NULL,
    held_messages   BIGINT NOT NULL DEFAULT 0,
    held_recipients BIGINT NOT NULL DEFAULT 0,
    new_messages    BIGINT NOT NULL DEFAULT 0,
    new_recipients  BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (ratelimit_id, minute)
);
CREATE INDEX IF NOT EXISTS usage_parts_minute_index ON usage_parts (minute);
