-- The client networks (/24, /48) that a sender's requests came from, and when last (seconds since 1970).
CREATE TABLE IF NOT EXISTS networks (
    ratelimit_id BIGINT      NOT NULL REFERENCES ratelimits (id) ON DELETE CASCADE ON UPDATE CASCADE,
    network      VARCHAR(64) NOT NULL,
    last_seen    BIGINT      NOT NULL,
    PRIMARY KEY (ratelimit_id, network)
);
CREATE INDEX IF NOT EXISTS networks_last_seen_index ON networks (last_seen);
