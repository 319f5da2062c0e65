-- How many records of each outage journal are charged, written in the transaction that charges them: none is charged twice,
-- whatever is interrupted between that COMMIT and the end of the file.
CREATE TABLE IF NOT EXISTS journals (
    journal BIGINT NOT NULL PRIMARY KEY,
    charged BIGINT NOT NULL,
    seen_at BIGINT NOT NULL
);
