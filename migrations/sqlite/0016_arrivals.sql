-- When a network was first seen for a sender (seconds since 1970), while limits ask which are new. One of networks that is not
-- here was seen before.
CREATE TABLE IF NOT EXISTS arrivals (
    ratelimit_id BIGINT      NOT NULL REFERENCES ratelimits (id) ON DELETE CASCADE ON UPDATE CASCADE,
    network      VARCHAR(64) NOT NULL,
    first_seen   BIGINT      NOT NULL,
    PRIMARY KEY (ratelimit_id, network)
);
CREATE INDEX IF NOT EXISTS arrivals_first_seen_index ON arrivals (first_seen);
