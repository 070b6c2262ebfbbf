-- +goose Up

ALTER TABLE tasks ADD COLUMN conversation TEXT NOT NULL DEFAULT '';
ALTER TABLE tasks ADD COLUMN verbatim INTEGER NOT NULL DEFAULT 0;

-- +goose Down

ALTER TABLE tasks DROP COLUMN verbatim;
ALTER TABLE tasks DROP COLUMN conversation;
