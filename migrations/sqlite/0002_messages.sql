-- The audit log: a row per request that charged something or was refused. Columns up to created_at are PolicydRateGuard's.
CREATE TABLE IF NOT EXISTS messages (
    id             INTEGER      NOT NULL PRIMARY KEY AUTOINCREMENT,
    ratelimit_id   BIGINT       NULL REFERENCES ratelimits (id) ON DELETE SET NULL ON UPDATE CASCADE,
    msgid          VARCHAR(255) NULL,
    sender         VARCHAR(255) NOT NULL,
    rcpt_count     BIGINT       NOT NULL,
    blocked        SMALLINT     NOT NULL,
    from_addr      VARCHAR(255) NULL,
    to_addr        TEXT         NULL,
    cc_addr        TEXT         NULL,
    bcc_addr       TEXT         NULL,
    subject        VARCHAR(255) NOT NULL DEFAULT '',
    client_address VARCHAR(45)  NULL,
    client_name    VARCHAR(255) NULL,
    created_at     TIMESTAMP    NOT NULL DEFAULT CURRENT_TIMESTAMP,
    action         VARCHAR(32)  NOT NULL DEFAULT '',
    reason         VARCHAR(255) NOT NULL DEFAULT ''
);
CREATE INDEX IF NOT EXISTS messages_ratelimit_id_index ON messages (ratelimit_id);
CREATE INDEX IF NOT EXISTS messages_created_at_index ON messages (created_at);
