-- +goose Up

-- First answers to requests that may be repeated. The body can be read only by who knows the request's own key.
CREATE TABLE answers (
    id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    request TEXT COLLATE "C" NOT NULL,
    body BYTEA NOT NULL,
    at BIGINT NOT NULL
);
CREATE INDEX answers_by_age ON answers (at);

-- +goose Down

DROP TABLE answers;
