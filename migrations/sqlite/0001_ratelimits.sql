-- A row per sender. Columns up to updated_at are PolicydRateGuard's.
CREATE TABLE IF NOT EXISTS ratelimits (
    id          INTEGER      NOT NULL PRIMARY KEY AUTOINCREMENT,
    sender      VARCHAR(255) NOT NULL,
    quota       BIGINT       NOT NULL DEFAULT 1000,
    quota_reset BIGINT       NOT NULL DEFAULT 1000,
    quota_locked SMALLINT    NOT NULL DEFAULT 0,
    msg_counter BIGINT       NOT NULL DEFAULT 0,
    rcpt_counter BIGINT      NOT NULL DEFAULT 0,
    msg_total   BIGINT       NOT NULL DEFAULT 0,
    rcpt_total  BIGINT       NOT NULL DEFAULT 0,
    created_at  TIMESTAMP    NOT NULL DEFAULT CURRENT_TIMESTAMP,
    updated_at  TIMESTAMP    NOT NULL DEFAULT CURRENT_TIMESTAMP,
    window_from BIGINT       NOT NULL DEFAULT 0
);
-- Senders are written in lower case; a row typed in by hand is found all the same.
CREATE UNIQUE INDEX IF NOT EXISTS ratelimits_sender_unique ON ratelimits (lower(sender));
