-- +goose Up

-- Keys that all processes share, such as the one that cursors are sealed with. Each is made where it is first needed.
CREATE TABLE secrets (
    name TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    secret BYTEA NOT NULL
);

-- +goose Down

DROP TABLE secrets;
