-- A row per sender. Columns up to updated_at are PolicydRateGuard's, and an adopted table stays as it is.
-- utf8mb4_bin: senders are written in lower case, and accents must not fold (jürgen is not jurgen).
CREATE TABLE IF NOT EXISTS ratelimits (
    id          BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
    sender      VARCHAR(255) NOT NULL,
    quota       INT UNSIGNED NOT NULL DEFAULT 1000,
    quota_reset INT UNSIGNED NOT NULL DEFAULT 1000,
    quota_locked TINYINT(1)  NOT NULL DEFAULT 0,
    msg_counter INT UNSIGNED NOT NULL DEFAULT 0,
    rcpt_counter INT UNSIGNED NOT NULL DEFAULT 0,
    msg_total   INT UNSIGNED NOT NULL DEFAULT 0,
    rcpt_total  INT UNSIGNED NOT NULL DEFAULT 0,
    created_at  TIMESTAMP    NOT NULL DEFAULT CURRENT_TIMESTAMP,
    updated_at  TIMESTAMP    NOT NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP,
    window_from BIGINT       NOT NULL DEFAULT 0,
    UNIQUE KEY ratelimits_sender_unique (sender)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
