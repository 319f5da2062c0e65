-- Whose mail somebody has stopped, since when, until when (NULL: until somebody ends it), how and why. A block is over when
-- ended_at is set or until has come; times are seconds since 1970. Who writes this table raises the number of 'blocks' in
-- revisions, in the same transaction: then each daemon knows it at its next message.
CREATE TABLE IF NOT EXISTS blocks (
    id         INTEGER      NOT NULL PRIMARY KEY AUTOINCREMENT,
    account    VARCHAR(255) NOT NULL,
    since      BIGINT       NOT NULL,
    until      BIGINT       NULL,
    action     VARCHAR(32)  NOT NULL DEFAULT 'HOLD',
    text       VARCHAR(255) NOT NULL DEFAULT '',
    reason     VARCHAR(32)  NOT NULL DEFAULT 'manual',
    set_by     VARCHAR(255) NOT NULL DEFAULT '',
    note       VARCHAR(255) NOT NULL DEFAULT '',
    ended_at   BIGINT       NULL,
    ended_by   VARCHAR(255) NOT NULL DEFAULT '',
    told       SMALLINT     NOT NULL DEFAULT 0
);
CREATE INDEX IF NOT EXISTS blocks_account_index ON blocks (account);
CREATE INDEX IF NOT EXISTS blocks_ended_at_index ON blocks (ended_at, until);
CREATE INDEX IF NOT EXISTS blocks_told_index ON blocks (told, until);
