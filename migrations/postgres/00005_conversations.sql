-- +goose Up

ALTER TABLE tasks ADD COLUMN conversation TEXT COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE tasks ADD COLUMN verbatim BIGINT NOT NULL DEFAULT 0;

-- +goose Down

ALTER TABLE tasks DROP COLUMN verbatim;
ALTER TABLE tasks DROP COLUMN conversation;
