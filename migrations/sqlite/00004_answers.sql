-- +goose Up

-- First answers to requests that may be repeated. The body can be read only by who knows the request's own key.
CREATE TABLE answers (
    id TEXT NOT NULL PRIMARY KEY,
    request TEXT NOT NULL,
    body BLOB NOT NULL,
    at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX answers_by_age ON answers (at);

-- +goose Down

DROP TABLE answers;
