-- +goose Up

-- Keys that all processes share, such as the one that cursors are sealed with. Each is made where it is first needed.
CREATE TABLE secrets (
    name TEXT NOT NULL PRIMARY KEY,
    secret BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- How long the market takes for a skill: trust.Pace. Processes add what they saw every few seconds.
CREATE TABLE trust_paces (
    skill_id TEXT NOT NULL PRIMARY KEY,
    weights TEXT NOT NULL, -- JSON, or empty
    updated_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- +goose Down

DROP TABLE trust_paces;
DROP TABLE secrets;
