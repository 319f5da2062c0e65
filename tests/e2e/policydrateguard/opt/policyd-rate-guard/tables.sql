-- The database of a running installation: one sender who has used 4 of 5 recipients today.
CREATE DATABASE `policyd-rate-guard`;
CREATE USER 'policyd'@'localhost' IDENTIFIED BY 'p$ss"word';
GRANT ALL ON `policyd-rate-guard`.* TO 'policyd'@'localhost';
USE `policyd-rate-guard`;

CREATE TABLE ratelimits (
    id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
    sender VARCHAR(255) NOT NULL,
    quota INT UNSIGNED NOT NULL DEFAULT 1000,
    quota_reset INT UNSIGNED NOT NULL DEFAULT 1000,
    quota_locked TINYINT(1) NOT NULL DEFAULT 0,
    msg_counter INT UNSIGNED NOT NULL DEFAULT 0,
    rcpt_counter INT UNSIGNED NOT NULL DEFAULT 0,
    msg_total INT UNSIGNED NOT NULL DEFAULT 0,
    rcpt_total INT UNSIGNED NOT NULL DEFAULT 0,
    created_at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP,
    updated_at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP,
    UNIQUE KEY ratelimits_sender_unique (sender)
);

CREATE TABLE messages (
    id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
    ratelimit_id BIGINT UNSIGNED NULL,
    msgid VARCHAR(255) NULL,
    sender VARCHAR(255) NOT NULL,
    rcpt_count INT NOT NULL,
    blocked TINYINT(1) NOT NULL,
    from_addr VARCHAR(255) NULL,
    to_addr TEXT NULL,
    cc_addr TEXT NULL,
    bcc_addr TEXT NULL,
    subject VARCHAR(255) NOT NULL DEFAULT '',
    client_address VARCHAR(45) NULL,
    client_name VARCHAR(255) NULL,
    created_at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP,
    KEY messages_created_at_index (created_at),
    CONSTRAINT messages_ratelimit_id_foreign FOREIGN KEY (ratelimit_id) REFERENCES ratelimits (id)
        ON DELETE SET NULL ON UPDATE CASCADE
);

INSERT INTO ratelimits (sender, quota, quota_reset, msg_counter, rcpt_counter, msg_total, rcpt_total)
    VALUES ('test01@example.com', 5, 5, 2, 4, 200, 400);
