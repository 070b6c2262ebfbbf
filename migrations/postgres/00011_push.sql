-- +goose Up

ALTER TABLE tasks ADD COLUMN push BIGINT NOT NULL DEFAULT 0;

-- Where somebody wants to be told of what happens to a task. Who writes here holds the task.
CREATE TABLE push_configs (
    id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    task_id TEXT COLLATE "C" NOT NULL,
    user_id TEXT COLLATE "C" NOT NULL,
    name TEXT COLLATE "C" NOT NULL,
    url TEXT COLLATE "C" NOT NULL,
    dialect TEXT COLLATE "C" NOT NULL,
    whole BIGINT NOT NULL CHECK (whole IN (0, 1)),
    schemes TEXT COLLATE "C" NOT NULL, -- JSON
    sealed BYTEA, -- secrets, which the database cannot read
    told BIGINT NOT NULL,
    failures BIGINT NOT NULL,
    set_at BIGINT NOT NULL,
    done_at BIGINT
);
CREATE UNIQUE INDEX push_configs_by_task ON push_configs (task_id, user_id, name);
CREATE INDEX push_configs_done ON push_configs (done_at) WHERE done_at IS NOT NULL;

-- +goose Down

DROP TABLE push_configs;
ALTER TABLE tasks DROP COLUMN push;
