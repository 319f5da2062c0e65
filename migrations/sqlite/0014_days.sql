-- What went its way, per sender and day (days since 1970, UTC): the highest sums within an hour and within 24 hours that end in
-- it, and all of it. What is usual for a sender is read from it; made from usage when a day is over.
CREATE TABLE IF NOT EXISTS days (
    ratelimit_id    BIGINT NOT NULL REFERENCES ratelimits (id) ON DELETE CASCADE ON UPDATE CASCADE,
    day             BIGINT NOT NULL,
    messages        BIGINT NOT NULL,
    recipients      BIGINT NOT NULL,
    hour_messages   BIGINT NOT NULL,
    hour_recipients BIGINT NOT NULL,
    day_messages    BIGINT NOT NULL,
    day_recipients  BIGINT NOT NULL,
    PRIMARY KEY (ratelimit_id, day)
);
CREATE INDEX IF NOT EXISTS days_day_index ON days (day);
