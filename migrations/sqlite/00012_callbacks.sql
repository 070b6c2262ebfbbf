-- +goose Up

-- The secret that the tokens of call-backs are made with: one row.
CREATE TABLE callback_key (
    id     INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    secret BLOB    NOT NULL
) STRICT;

CREATE TABLE callbacks (
    task_id TEXT    NOT NULL PRIMARY KEY,
    calls   INTEGER NOT NULL,
    at      INTEGER NOT NULL -- of the last
) STRICT, WITHOUT ROWID;
CREATE INDEX callbacks_by_age ON callbacks (at);

-- +goose Down

DROP TABLE callbacks;
DROP TABLE callback_key;
