-- +goose Up

-- The secret that the tokens of call-backs are made with: one row.
CREATE TABLE callback_key (
    id     INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    secret BYTEA   NOT NULL
);

CREATE TABLE callbacks (
    task_id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    calls   BIGINT NOT NULL,
    at      BIGINT NOT NULL -- of the last
);
CREATE INDEX callbacks_by_age ON callbacks (at);

-- +goose Down

DROP TABLE callbacks;
DROP TABLE callback_key;
