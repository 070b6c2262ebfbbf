-- Conventions: times are microseconds since 1970 in UTC, money is hundredths of a credit, JSON is text as it was given.
-- Texts sort by their bytes, as they do in every other store.

-- +goose Up

CREATE TABLE users (
    id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    email TEXT COLLATE "C" NOT NULL UNIQUE,
    password_hash TEXT COLLATE "C" NOT NULL,
    role TEXT COLLATE "C" NOT NULL CHECK (role IN ('user', 'admin')),
    created_at BIGINT NOT NULL
);

CREATE TABLE sessions (
    token_hash TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    user_id TEXT COLLATE "C" NOT NULL REFERENCES users (id),
    created_at BIGINT NOT NULL,
    last_seen_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
);
CREATE INDEX sessions_expiry ON sessions (expires_at);

CREATE TABLE api_keys (
    id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    agent_id TEXT COLLATE "C" NOT NULL,
    user_id TEXT COLLATE "C" NOT NULL REFERENCES users (id),
    name TEXT COLLATE "C" NOT NULL,
    prefix TEXT COLLATE "C" NOT NULL,
    hash TEXT COLLATE "C" NOT NULL UNIQUE,
    scopes TEXT COLLATE "C" NOT NULL, -- JSON
    created_at BIGINT NOT NULL,
    expires_at BIGINT,
    last_used_at BIGINT,
    revoked_at BIGINT 
);
CREATE INDEX api_keys_by_agent ON api_keys (agent_id, created_at DESC, id DESC) WHERE revoked_at IS NULL;

CREATE TABLE agents (
    seq BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id TEXT COLLATE "C" NOT NULL UNIQUE,
    version BIGINT NOT NULL, -- another one with every change but of trust_score and featured
    owner_user_id TEXT COLLATE "C" NOT NULL,
    status TEXT COLLATE "C" NOT NULL CHECK (status IN ('online', 'degraded', 'offline')),
    category TEXT COLLATE "C" NOT NULL, -- as set
    effective_category TEXT COLLATE "C" NOT NULL, -- as shown and searched
    price BIGINT NOT NULL CHECK (price >= 0),
    trust_score DOUBLE PRECISION NOT NULL,
    featured BIGINT NOT NULL CHECK (featured IN (0, 1)),
    last_heartbeat BIGINT,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    deleted_at BIGINT,
    name TEXT COLLATE "C" NOT NULL,
    endpoint TEXT COLLATE "C" NOT NULL,
    description TEXT COLLATE "C" NOT NULL,
    tags TEXT COLLATE "C" NOT NULL, -- JSON
    search_name TEXT COLLATE "C" NOT NULL, -- registry.SearchText
    search_skills TEXT COLLATE "C" NOT NULL,
    search_description TEXT COLLATE "C" NOT NULL,
    metadata TEXT COLLATE "C", -- JSON
    skills TEXT COLLATE "C" NOT NULL, -- JSON
    card TEXT COLLATE "C" -- JSON
);
CREATE INDEX agents_by_owner ON agents (owner_user_id, created_at DESC, id DESC) WHERE deleted_at IS NULL;
-- Each order of discovery has an index that also answers every filter but text and terms, so that finding and counting
-- read no rows.
CREATE INDEX agents_by_trust ON agents (trust_score DESC, id, effective_category, price, status, last_heartbeat) WHERE deleted_at IS NULL;
CREATE INDEX agents_by_price ON agents (price, id, effective_category, trust_score, status, last_heartbeat) WHERE deleted_at IS NULL;
CREATE INDEX agents_by_age ON agents (created_at DESC, id, effective_category, trust_score, price, status, last_heartbeat) WHERE deleted_at IS NULL;
CREATE INDEX agents_by_category ON agents (effective_category, trust_score DESC, id, price, status, last_heartbeat) WHERE deleted_at IS NULL;

-- agent_terms has the live agents only.
CREATE TABLE agent_terms (
    kind TEXT COLLATE "C" NOT NULL CHECK (kind IN ('tag', 'skill')),
    term TEXT COLLATE "C" NOT NULL,
    agent_id TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (kind, term, agent_id)
);
CREATE INDEX agent_terms_by_agent ON agent_terms (agent_id);

CREATE TABLE tasks (
    id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    status TEXT COLLATE "C" NOT NULL CHECK (status IN ('pending', 'assigned', 'running', 'completed', 'failed', 'cancelled')),
    requester_user_id TEXT COLLATE "C" NOT NULL,
    requester_agent_id TEXT COLLATE "C" NOT NULL,
    agent_id TEXT COLLATE "C" NOT NULL,
    agent_owner_id TEXT COLLATE "C" NOT NULL,
    skill_id TEXT COLLATE "C" NOT NULL,
    max_budget BIGINT,
    price BIGINT NOT NULL CHECK (price >= 0),
    attempts BIGINT NOT NULL,
    timeout BIGINT NOT NULL, -- nanoseconds
    created_at BIGINT NOT NULL,
    started_at BIGINT,
    updated_at BIGINT NOT NULL,
    timeout_at BIGINT NOT NULL,
    completed_at BIGINT,
    workflow_run_id TEXT COLLATE "C" NOT NULL,
    step_index BIGINT,
    remote_task_id TEXT COLLATE "C" NOT NULL,
    context_id TEXT COLLATE "C" NOT NULL,
    last_seq BIGINT NOT NULL,
    error_code TEXT COLLATE "C",
    error_message TEXT COLLATE "C",
    title TEXT COLLATE "C" NOT NULL,
    description TEXT COLLATE "C" NOT NULL,
    input TEXT COLLATE "C", -- JSON
    output TEXT COLLATE "C" -- JSON
);
CREATE INDEX tasks_by_requester ON tasks (requester_user_id, created_at DESC, id DESC);
CREATE INDEX tasks_by_agent_owner ON tasks (agent_owner_id, created_at DESC, id DESC);
CREATE INDEX tasks_open ON tasks (timeout_at, id, agent_id) WHERE status IN ('pending', 'assigned', 'running');

CREATE TABLE task_events (
    task_id TEXT COLLATE "C" NOT NULL,
    seq BIGINT NOT NULL,
    kind TEXT COLLATE "C" NOT NULL CHECK (kind IN ('status', 'message', 'artifact', 'complete')),
    status TEXT COLLATE "C" NOT NULL,
    at BIGINT NOT NULL,
    body TEXT COLLATE "C" NOT NULL, -- JSON, or empty
    PRIMARY KEY (task_id, seq)
);

CREATE TABLE ledger_accounts (
    user_id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    available BIGINT NOT NULL CHECK (available >= 0),
    held BIGINT NOT NULL CHECK (held >= 0),
    granted BIGINT NOT NULL,
    purchased BIGINT NOT NULL,
    earned BIGINT NOT NULL,
    spent BIGINT NOT NULL,
    reversed BIGINT NOT NULL,
    CHECK (granted + purchased + earned - spent - held - reversed = available)
);

CREATE TABLE ledger_transfers (
    id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    key TEXT COLLATE "C" NOT NULL UNIQUE,
    reference TEXT COLLATE "C" NOT NULL,
    description TEXT COLLATE "C" NOT NULL,
    at BIGINT NOT NULL
);

CREATE TABLE ledger_entries (
    seq BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, -- the order of booking
    id TEXT COLLATE "C" NOT NULL,
    transfer_id TEXT COLLATE "C" NOT NULL, -- which has the rest
    account TEXT COLLATE "C" NOT NULL,
    type TEXT COLLATE "C" NOT NULL CHECK (type IN ('initial_grant', 'purchase', 'task_debit', 'task_credit', 'platform_fee', 'refund', 'hold', 'release', 'reversal')),
    amount BIGINT NOT NULL CHECK (amount <> 0),
    balance_after BIGINT NOT NULL,
    at BIGINT NOT NULL
);
-- Also counts, totals and usage are read from it alone: one index more would cost every transfer.
CREATE INDEX ledger_entries_by_account ON ledger_entries (account, seq, type, at, amount);

-- +goose StatementBegin
CREATE FUNCTION ledger_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the ledger is append-only';
END $$;
-- +goose StatementEnd
CREATE TRIGGER ledger_transfers_keep BEFORE UPDATE OR DELETE ON ledger_transfers FOR EACH ROW EXECUTE FUNCTION ledger_is_append_only();
CREATE TRIGGER ledger_transfers_stay BEFORE TRUNCATE ON ledger_transfers FOR EACH STATEMENT EXECUTE FUNCTION ledger_is_append_only();
CREATE TRIGGER ledger_entries_keep BEFORE UPDATE OR DELETE ON ledger_entries FOR EACH ROW EXECUTE FUNCTION ledger_is_append_only();
CREATE TRIGGER ledger_entries_stay BEFORE TRUNCATE ON ledger_entries FOR EACH STATEMENT EXECUTE FUNCTION ledger_is_append_only();

CREATE TABLE trust_profiles (
    agent_id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    since BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    reliability_sum DOUBLE PRECISION NOT NULL,
    reliability_weight DOUBLE PRECISION NOT NULL,
    speed_sum DOUBLE PRECISION NOT NULL,
    speed_weight DOUBLE PRECISION NOT NULL,
    quality_sum DOUBLE PRECISION NOT NULL,
    quality_weight DOUBLE PRECISION NOT NULL,
    completed BIGINT NOT NULL,
    failed BIGINT NOT NULL,
    timed_out BIGINT NOT NULL,
    ratings BIGINT NOT NULL,
    stars BIGINT NOT NULL,
    score DOUBLE PRECISION NOT NULL,
    reliability DOUBLE PRECISION NOT NULL,
    speed DOUBLE PRECISION NOT NULL,
    quality DOUBLE PRECISION NOT NULL,
    tenure DOUBLE PRECISION NOT NULL
);

CREATE TABLE trust_events (
    agent_id TEXT COLLATE "C" NOT NULL,
    created_at BIGINT NOT NULL,
    id TEXT COLLATE "C" NOT NULL,
    type TEXT COLLATE "C" NOT NULL CHECK (type IN ('task_completed', 'task_failed', 'task_timeout', 'sla_breach', 'rating_received', 'dispute_opened', 'dispute_resolved')),
    score DOUBLE PRECISION NOT NULL,
    score_before DOUBLE PRECISION NOT NULL,
    score_after DOUBLE PRECISION NOT NULL,
    task_id TEXT COLLATE "C" NOT NULL,
    reason TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (agent_id, created_at, id)
);
CREATE UNIQUE INDEX trust_events_once ON trust_events (task_id, type) WHERE task_id <> '';

CREATE TABLE jobs (
    id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    kind TEXT COLLATE "C" NOT NULL,
    subject TEXT COLLATE "C" NOT NULL,
    run_at BIGINT NOT NULL,
    priority BIGINT NOT NULL CHECK (priority BETWEEN 0 AND 2),
    attempt BIGINT NOT NULL,
    lease_owner TEXT COLLATE "C" NOT NULL,
    lease_until BIGINT NOT NULL
);
CREATE INDEX jobs_due ON jobs (priority, run_at, id);
CREATE INDEX jobs_leased ON jobs (lease_owner) WHERE lease_owner <> '';

-- +goose Down

DROP TABLE jobs;
DROP TABLE trust_events;
DROP TABLE trust_profiles;
DROP TABLE ledger_entries;
DROP TABLE ledger_transfers;
DROP TABLE ledger_accounts;
DROP TABLE task_events;
DROP TABLE tasks;
DROP TABLE agent_terms;
DROP TABLE agents;
DROP TABLE api_keys;
DROP TABLE sessions;
DROP TABLE users;
DROP FUNCTION ledger_is_append_only();
