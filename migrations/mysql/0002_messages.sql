-- The audit log: a row per request that charged something or was refused. Columns up to created_at are PolicydRateGuard's,
-- and an adopted table stays as it is but for the two columns at the end.
CREATE TABLE IF NOT EXISTS messages (
    id             BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
    ratelimit_id   BIGINT UNSIGNED NULL,
    msgid          VARCHAR(255) NULL,
    sender         VARCHAR(255) NOT NULL,
    rcpt_count     INT          NOT NULL,
    blocked        TINYINT(1)   NOT NULL,
    from_addr      VARCHAR(255) NULL,
    to_addr        TEXT         NULL,
    cc_addr        TEXT         NULL,
    bcc_addr       TEXT         NULL,
    subject        VARCHAR(255) NOT NULL DEFAULT '',
    client_address VARCHAR(45)  NULL,
    client_name    VARCHAR(255) NULL,
    created_at     TIMESTAMP    NOT NULL DEFAULT CURRENT_TIMESTAMP,
    action         VARCHAR(32)  NOT NULL DEFAULT '',
    reason         VARCHAR(255) NOT NULL DEFAULT '',
    KEY messages_ratelimit_id_index (ratelimit_id),
    KEY messages_created_at_index (created_at),
    CONSTRAINT messages_ratelimit_id_foreign FOREIGN KEY (ratelimit_id)
        REFERENCES ratelimits (id) ON DELETE SET NULL ON UPDATE CASCADE
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4;
