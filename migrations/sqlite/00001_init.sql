-- Conventions: times are microseconds since 1970 in UTC, money is hundredths of a credit, JSON is text as it was given.
-- STRICT tables refuse a value of another type, so an overflowing sum is an error and never a rounded number. Narrow
-- tables that are only reached by their key are WITHOUT ROWID: one B-tree instead of two.

-- +goose Up

CREATE TABLE users (
    id            TEXT    NOT NULL PRIMARY KEY,
    email         TEXT    NOT NULL UNIQUE,
    password_hash TEXT    NOT NULL,
    role          TEXT    NOT NULL CHECK (role IN ('user', 'admin')),
    created_at    INTEGER NOT NULL
) STRICT;

CREATE TABLE sessions (
    token_hash   TEXT    NOT NULL PRIMARY KEY,
    user_id      TEXT    NOT NULL REFERENCES users (id),
    created_at   INTEGER NOT NULL,
    last_seen_at INTEGER NOT NULL,
    expires_at   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX sessions_expiry ON sessions (expires_at);

CREATE TABLE api_keys (
    id           TEXT    NOT NULL PRIMARY KEY,
    agent_id     TEXT    NOT NULL,
    user_id      TEXT    NOT NULL REFERENCES users (id),
    name         TEXT    NOT NULL,
    prefix       TEXT    NOT NULL,
    hash         TEXT    NOT NULL UNIQUE,
    scopes       TEXT    NOT NULL, -- JSON
    created_at   INTEGER NOT NULL,
    expires_at   INTEGER,
    last_used_at INTEGER,
    revoked_at   INTEGER
) STRICT;
CREATE INDEX api_keys_by_agent ON api_keys (agent_id, created_at DESC, id DESC) WHERE revoked_at IS NULL;

CREATE TABLE agents (
    seq                INTEGER PRIMARY KEY, -- what the text index calls the row
    id                 TEXT    NOT NULL UNIQUE,
    version            INTEGER NOT NULL, -- another one with every change but of trust_score and featured
    owner_user_id      TEXT    NOT NULL,
    status             TEXT    NOT NULL CHECK (status IN ('online', 'degraded', 'offline')),
    category           TEXT    NOT NULL, -- as set
    effective_category TEXT    NOT NULL, -- as shown and searched
    price              INTEGER NOT NULL CHECK (price >= 0),
    trust_score        REAL    NOT NULL,
    featured           INTEGER NOT NULL CHECK (featured IN (0, 1)),
    last_heartbeat     INTEGER,
    created_at         INTEGER NOT NULL,
    updated_at         INTEGER NOT NULL,
    deleted_at         INTEGER,
    name               TEXT    NOT NULL,
    endpoint           TEXT    NOT NULL,
    description        TEXT    NOT NULL,
    tags               TEXT    NOT NULL, -- JSON
    search_name        TEXT    NOT NULL, -- registry.SearchText
    search_skills      TEXT    NOT NULL,
    search_description TEXT    NOT NULL,
    metadata           TEXT,             -- JSON
    skills             TEXT    NOT NULL, -- JSON
    card               TEXT              -- JSON
) STRICT;
CREATE INDEX agents_by_owner ON agents (owner_user_id, created_at DESC, id DESC) WHERE deleted_at IS NULL;
-- Each order of discovery has an index that also answers every filter but text and terms, so that finding and counting
-- read no rows.
CREATE INDEX agents_by_trust ON agents (trust_score DESC, id, effective_category, price, status, last_heartbeat) WHERE deleted_at IS NULL;
CREATE INDEX agents_by_price ON agents (price, id, effective_category, trust_score, status, last_heartbeat) WHERE deleted_at IS NULL;
CREATE INDEX agents_by_age ON agents (created_at DESC, id, effective_category, trust_score, price, status, last_heartbeat) WHERE deleted_at IS NULL;
CREATE INDEX agents_by_category ON agents (effective_category, trust_score DESC, id, price, status, last_heartbeat) WHERE deleted_at IS NULL;

-- agent_terms has the live agents only.
CREATE TABLE agent_terms (
    kind     TEXT NOT NULL CHECK (kind IN ('tag', 'skill')),
    term     TEXT NOT NULL,
    agent_id TEXT NOT NULL,
    PRIMARY KEY (kind, term, agent_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX agent_terms_by_agent ON agent_terms (agent_id);

-- The words of the live agents, to find candidates by; what they are worth is worked out from the agent's row.
CREATE VIRTUAL TABLE agent_words USING fts5 (words, content = '', contentless_delete = 1, detail = 'none', tokenize = 'unicode61 remove_diacritics 0');
-- +goose StatementBegin
CREATE TRIGGER agent_words_insert AFTER INSERT ON agents WHEN NEW.deleted_at IS NULL BEGIN
    INSERT INTO agent_words (rowid, words) VALUES (NEW.seq, NEW.search_name || NEW.search_skills || NEW.search_description);
END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER agent_words_update AFTER UPDATE OF deleted_at, search_name, search_skills, search_description ON agents
WHEN (NEW.deleted_at IS NULL) <> (OLD.deleted_at IS NULL) OR NEW.search_name <> OLD.search_name OR NEW.search_skills <> OLD.search_skills
    OR NEW.search_description <> OLD.search_description BEGIN
    DELETE FROM agent_words WHERE rowid = OLD.seq AND OLD.deleted_at IS NULL;
    INSERT INTO agent_words (rowid, words) SELECT NEW.seq, NEW.search_name || NEW.search_skills || NEW.search_description WHERE NEW.deleted_at IS NULL;
END;
-- +goose StatementEnd

CREATE TABLE tasks (
    id                 TEXT    NOT NULL PRIMARY KEY,
    status             TEXT    NOT NULL CHECK (status IN ('pending', 'assigned', 'running', 'completed', 'failed', 'cancelled')),
    requester_user_id  TEXT    NOT NULL,
    requester_agent_id TEXT    NOT NULL,
    agent_id           TEXT    NOT NULL,
    agent_owner_id     TEXT    NOT NULL,
    skill_id           TEXT    NOT NULL,
    max_budget         INTEGER,
    price              INTEGER NOT NULL CHECK (price >= 0),
    attempts           INTEGER NOT NULL,
    timeout            INTEGER NOT NULL, -- nanoseconds
    created_at         INTEGER NOT NULL,
    started_at         INTEGER,
    updated_at         INTEGER NOT NULL,
    timeout_at         INTEGER NOT NULL,
    completed_at       INTEGER,
    workflow_run_id    TEXT    NOT NULL,
    step_index         INTEGER,
    remote_task_id     TEXT    NOT NULL,
    context_id         TEXT    NOT NULL,
    last_seq           INTEGER NOT NULL,
    error_code         TEXT,
    error_message      TEXT,
    title              TEXT    NOT NULL,
    description        TEXT    NOT NULL,
    input              TEXT, -- JSON
    output             TEXT  -- JSON
) STRICT;
CREATE INDEX tasks_by_requester ON tasks (requester_user_id, created_at DESC, id DESC);
CREATE INDEX tasks_by_agent_owner ON tasks (agent_owner_id, created_at DESC, id DESC);
CREATE INDEX tasks_open ON tasks (timeout_at, id, agent_id) WHERE status IN ('pending', 'assigned', 'running');

CREATE TABLE task_events (
    task_id TEXT    NOT NULL,
    seq     INTEGER NOT NULL,
    kind    TEXT    NOT NULL CHECK (kind IN ('status', 'message', 'artifact', 'complete')),
    status  TEXT    NOT NULL,
    at      INTEGER NOT NULL,
    body    TEXT    NOT NULL, -- JSON, or empty
    PRIMARY KEY (task_id, seq)
) STRICT, WITHOUT ROWID;

CREATE TABLE ledger_accounts (
    user_id   TEXT    NOT NULL PRIMARY KEY,
    available INTEGER NOT NULL CHECK (available >= 0),
    held      INTEGER NOT NULL CHECK (held >= 0),
    granted   INTEGER NOT NULL,
    purchased INTEGER NOT NULL,
    earned    INTEGER NOT NULL,
    spent     INTEGER NOT NULL,
    reversed  INTEGER NOT NULL,
    CHECK (granted + purchased + earned - spent - held - reversed = available)
) STRICT, WITHOUT ROWID;

CREATE TABLE ledger_transfers (
    id          TEXT    NOT NULL PRIMARY KEY,
    key         TEXT    NOT NULL UNIQUE,
    reference   TEXT    NOT NULL,
    description TEXT    NOT NULL,
    at          INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE ledger_entries (
    seq           INTEGER PRIMARY KEY, -- the order of booking
    id            TEXT    NOT NULL,
    transfer_id   TEXT    NOT NULL, -- which has the rest
    account       TEXT    NOT NULL,
    type          TEXT    NOT NULL CHECK (type IN ('initial_grant', 'purchase', 'task_debit', 'task_credit', 'platform_fee', 'refund', 'hold', 'release', 'reversal')),
    amount        INTEGER NOT NULL CHECK (amount <> 0),
    balance_after INTEGER NOT NULL,
    at            INTEGER NOT NULL
) STRICT;
-- Also counts, totals and usage are read from it alone: one index more would cost every transfer.
CREATE INDEX ledger_entries_by_account ON ledger_entries (account, seq, type, at, amount);

-- +goose StatementBegin
CREATE TRIGGER ledger_transfers_keep BEFORE UPDATE ON ledger_transfers BEGIN
    SELECT RAISE(ABORT, 'the ledger is append-only');
END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER ledger_transfers_stay BEFORE DELETE ON ledger_transfers BEGIN
    SELECT RAISE(ABORT, 'the ledger is append-only');
END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER ledger_entries_keep BEFORE UPDATE ON ledger_entries BEGIN
    SELECT RAISE(ABORT, 'the ledger is append-only');
END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER ledger_entries_stay BEFORE DELETE ON ledger_entries BEGIN
    SELECT RAISE(ABORT, 'the ledger is append-only');
END;
-- +goose StatementEnd

CREATE TABLE trust_profiles (
    agent_id           TEXT    NOT NULL PRIMARY KEY,
    since              INTEGER NOT NULL,
    updated_at         INTEGER NOT NULL,
    reliability_sum    REAL    NOT NULL,
    reliability_weight REAL    NOT NULL,
    speed_sum          REAL    NOT NULL,
    speed_weight       REAL    NOT NULL,
    quality_sum        REAL    NOT NULL,
    quality_weight     REAL    NOT NULL,
    completed          INTEGER NOT NULL,
    failed             INTEGER NOT NULL,
    timed_out          INTEGER NOT NULL,
    ratings            INTEGER NOT NULL,
    stars              INTEGER NOT NULL,
    score              REAL    NOT NULL,
    reliability        REAL    NOT NULL,
    speed              REAL    NOT NULL,
    quality            REAL    NOT NULL,
    tenure             REAL    NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE trust_events (
    agent_id     TEXT    NOT NULL,
    created_at   INTEGER NOT NULL,
    id           TEXT    NOT NULL,
    type         TEXT    NOT NULL CHECK (type IN ('task_completed', 'task_failed', 'task_timeout', 'sla_breach', 'rating_received', 'dispute_opened', 'dispute_resolved')),
    score        REAL    NOT NULL,
    score_before REAL    NOT NULL,
    score_after  REAL    NOT NULL,
    task_id      TEXT    NOT NULL,
    reason       TEXT    NOT NULL,
    PRIMARY KEY (agent_id, created_at, id)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX trust_events_once ON trust_events (task_id, type) WHERE task_id <> '';

CREATE TABLE jobs (
    id          TEXT    NOT NULL PRIMARY KEY,
    kind        TEXT    NOT NULL,
    subject     TEXT    NOT NULL,
    run_at      INTEGER NOT NULL,
    priority    INTEGER NOT NULL CHECK (priority BETWEEN 0 AND 2),
    attempt     INTEGER NOT NULL,
    lease_owner TEXT    NOT NULL,
    lease_until INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
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
DROP TABLE agent_words;
DROP TABLE api_keys;
DROP TABLE sessions;
DROP TABLE users;
