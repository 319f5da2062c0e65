-- When a network was first seen for a sender (seconds since 1970), while limits ask which are new. One of networks that is not
-- here was seen before.
CREATE TABLE IF NOT EXISTS arrivals (
    ratelimit_id BIGINT UNSIGNED NOT NULL,
    network      VARCHAR(64) NOT NULL,
    first_seen   BIGINT      NOT NULL,
    PRIMARY KEY (ratelimit_id, network),
    KEY arrivals_first_seen_index (first_seen),
    CONSTRAINT arrivals_ratelimit_id_foreign FOREIGN KEY (ratelimit_id)
        REFERENCES ratelimits (id) ON DELETE CASCADE ON UPDATE CASCADE
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4;
