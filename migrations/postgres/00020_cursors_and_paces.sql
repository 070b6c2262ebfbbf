-- +goose Up

-- Keys that all processes share, such as the one that cursors are sealed with. Each is made where it is first needed.
CREATE TABLE secrets (
    name TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    secret BYTEA NOT NULL
);

-- How long the market takes for a skill: trust.Pace. Processes add what they saw every few seconds.
CREATE TABLE trust_paces (
    skill_id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    weights TEXT COLLATE "C" NOT NULL, -- JSON, or empty
    updated_at BIGINT NOT NULL
);

-- +goose Down

DROP TABLE trust_paces;
DROP TABLE secrets;
