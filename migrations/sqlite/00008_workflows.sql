-- +goose Up

CREATE TABLE workflows (
    id            TEXT    NOT NULL PRIMARY KEY,
    owner_user_id TEXT    NOT NULL,
    name          TEXT    NOT NULL,
    created_at    INTEGER NOT NULL,
    updated_at    INTEGER NOT NULL,
    deleted_at    INTEGER,
    description   TEXT    NOT NULL,
    steps         TEXT    NOT NULL  -- JSON
) STRICT;
CREATE INDEX workflows_by_owner ON workflows (owner_user_id, created_at DESC, id DESC) WHERE deleted_at IS NULL;

-- The steps of a run are in its log, in the event of its creation, and what they gave in the events of their completion.
CREATE TABLE workflow_runs (
    id                 TEXT    NOT NULL PRIMARY KEY,
    workflow_id        TEXT    NOT NULL,
    owner_user_id      TEXT    NOT NULL,
    requester_agent_id TEXT    NOT NULL,
    status             TEXT    NOT NULL CHECK (status IN ('pending', 'running', 'completed', 'failed', 'cancelled')),
    last_seq           INTEGER NOT NULL,
    created_at         INTEGER NOT NULL,
    started_at         INTEGER,
    completed_at       INTEGER,
    state              TEXT    NOT NULL  -- JSON: of the steps, without outputs
) STRICT;
CREATE INDEX workflow_runs_by_workflow ON workflow_runs (workflow_id, created_at DESC, id DESC);
CREATE INDEX workflow_runs_open ON workflow_runs (workflow_id, created_at DESC, id DESC) WHERE status IN ('pending', 'running');

CREATE TABLE run_events (
    run_id  TEXT    NOT NULL,
    seq     INTEGER NOT NULL,
    kind    TEXT    NOT NULL,
    status  TEXT    NOT NULL,
    step    INTEGER NOT NULL, -- -1 in the run's own
    attempt INTEGER NOT NULL,
    at      INTEGER NOT NULL,
    body    TEXT    NOT NULL, -- JSON, or empty
    PRIMARY KEY (run_id, seq)
) STRICT, WITHOUT ROWID;

-- +goose Down

DROP TABLE run_events;
DROP TABLE workflow_runs;
DROP TABLE workflows;
