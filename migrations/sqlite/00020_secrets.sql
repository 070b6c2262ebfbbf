-- +goose Up

-- Keys that all processes share, such as the one that cursors are sealed with. Each is made where it is first needed.
CREATE TABLE secrets (
    name TEXT NOT NULL PRIMARY KEY,
    secret BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- +goose Down

DROP TABLE secrets;
