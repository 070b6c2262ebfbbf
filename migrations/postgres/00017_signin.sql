-- +goose Up

ALTER TABLE users ADD COLUMN verified_at BIGINT;
ALTER TABLE users ADD COLUMN pending_email TEXT COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE users ADD COLUMN disabled_at BIGINT;
ALTER TABLE users ADD COLUMN deleted_at BIGINT;
CREATE INDEX users_by_age ON users (created_at DESC, id DESC) WHERE deleted_at IS NULL;

ALTER TABLE sessions ADD COLUMN address TEXT COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE sessions ADD COLUMN device TEXT COLLATE "C" NOT NULL DEFAULT '';
CREATE INDEX sessions_by_user ON sessions (user_id);
CREATE INDEX api_keys_by_user ON api_keys (user_id) WHERE revoked_at IS NULL;

CREATE TABLE identities (
    id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    user_id TEXT COLLATE "C" NOT NULL REFERENCES users (id),
    issuer TEXT COLLATE "C" NOT NULL,
    subject TEXT COLLATE "C" NOT NULL,
    email TEXT COLLATE "C" NOT NULL,
    created_at BIGINT NOT NULL,
    UNIQUE (issuer, subject)
);
CREATE INDEX identities_by_user ON identities (user_id, created_at, id);

-- What was sent by mail. The token itself is nowhere but in the mail.
CREATE TABLE mail_tokens (
    hash TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    user_id TEXT COLLATE "C" NOT NULL REFERENCES users (id),
    purpose TEXT COLLATE "C" NOT NULL,
    email TEXT COLLATE "C" NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
);
CREATE INDEX mail_tokens_by_user ON mail_tokens (user_id);
CREATE INDEX mail_tokens_expiry ON mail_tokens (expires_at);

-- What is to be sent: each has a job, which takes it away.
CREATE TABLE letters (
    id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    kind TEXT COLLATE "C" NOT NULL,
    user_id TEXT COLLATE "C" NOT NULL,
    email TEXT COLLATE "C" NOT NULL,
    created_at BIGINT NOT NULL
);

-- +goose Down

DROP TABLE letters;
DROP TABLE mail_tokens;
DROP TABLE identities;
DROP INDEX api_keys_by_user;
DROP INDEX sessions_by_user;
ALTER TABLE sessions DROP COLUMN device;
ALTER TABLE sessions DROP COLUMN address;
DROP INDEX users_by_age;
ALTER TABLE users DROP COLUMN deleted_at;
ALTER TABLE users DROP COLUMN disabled_at;
ALTER TABLE users DROP COLUMN pending_email;
ALTER TABLE users DROP COLUMN verified_at;
