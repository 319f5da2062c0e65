-- What somebody was told about a sender, so that several daemons tell it once in a period.
CREATE TABLE IF NOT EXISTS notices (
    ratelimit_id BIGINT      NOT NULL REFERENCES ratelimits (id) ON DELETE CASCADE ON UPDATE CASCADE,
    event        VARCHAR(64) NOT NULL,
    period       BIGINT      NOT NULL,
    PRIMARY KEY (ratelimit_id, event, period)
);
