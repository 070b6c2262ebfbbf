-- +goose Up

CREATE TABLE workflows (
    id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    owner_user_id TEXT COLLATE "C" NOT NULL,
    name TEXT COLLATE "C" NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    deleted_at BIGINT,
    description TEXT COLLATE "C" NOT NULL,
    steps TEXT COLLATE "C" NOT NULL -- JSON
);
CREATE INDEX workflows_by_owner ON workflows (owner_user_id, created_at DESC, id DESC) WHERE deleted_at IS NULL;

-- The steps of a run are in its log, in the event of its creation, and what they gave in the events of their completion.
CREATE TABLE workflow_runs (
    id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    workflow_id TEXT COLLATE "C" NOT NULL,
    owner_user_id TEXT COLLATE "C" NOT NULL,
    requester_agent_id TEXT COLLATE "C" NOT NULL,
    status TEXT COLLATE "C" NOT NULL CHECK (status IN ('pending', 'running', 'completed', 'failed', 'cancelled')),
    last_seq BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    started_at BIGINT,
    completed_at BIGINT,
    state TEXT COLLATE "C" NOT NULL -- JSON: of the steps, without outputs
);
CREATE INDEX workflow_runs_by_workflow ON workflow_runs (workflow_id, created_at DESC, id DESC);
CREATE INDEX workflow_runs_open ON workflow_runs (workflow_id, created_at DESC, id DESC) WHERE status IN ('pending', 'running');

CREATE TABLE run_events (
    run_id TEXT COLLATE "C" NOT NULL,
    seq BIGINT NOT NULL,
    kind TEXT COLLATE "C" NOT NULL,
    status TEXT COLLATE "C" NOT NULL,
    step BIGINT NOT NULL, -- -1 in the run's own
    attempt BIGINT NOT NULL,
    at BIGINT NOT NULL,
    body TEXT COLLATE "C" NOT NULL, -- JSON, or empty
    PRIMARY KEY (run_id, seq)
);

-- +goose Down

DROP TABLE run_events;
DROP TABLE workflow_runs;
DROP TABLE workflows;
