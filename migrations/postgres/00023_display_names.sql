-- +goose Up

-- What people call themselves; '' for who has not said.
ALTER TABLE users ADD COLUMN name TEXT NOT NULL DEFAULT '';

-- +goose Down

ALTER TABLE users DROP COLUMN name;
