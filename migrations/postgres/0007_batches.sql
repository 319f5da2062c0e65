-- The last batch that each daemon committed, written with the batch itself: after a connection that was lost within a COMMIT
-- it says what became of it.
CREATE TABLE IF NOT EXISTS batches (
    daemon  BIGINT NOT NULL PRIMARY KEY,
    batch   BIGINT NOT NULL,
    seen_at BIGINT NOT NULL
);
