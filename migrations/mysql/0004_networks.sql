-- The client networks (/24, /48) that a sender's requests came from, and when last (seconds since 1970).
CREATE TABLE IF NOT EXISTS networks (
    ratelimit_id BIGINT UNSIGNED NOT NULL,
    network      VARCHAR(64) NOT NULL,
    last_seen    BIGINT      NOT NULL,
    PRIMARY KEY (ratelimit_id, network),
    KEY networks_last_seen_index (last_seen),
    CONSTRAINT networks_ratelimit_id_foreign FOREIGN KEY (ratelimit_id)
        REFERENCES ratelimits (id) ON DELETE CASCADE ON UPDATE CASCADE
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4;
