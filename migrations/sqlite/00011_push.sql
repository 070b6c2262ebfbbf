-- +goose Up

ALTER TABLE tasks ADD COLUMN push INTEGER NOT NULL DEFAULT 0;

-- Where somebody wants to be told of what happens to a task. Who writes here holds the task.
CREATE TABLE push_configs (
    id       TEXT    NOT NULL PRIMARY KEY,
    task_id  TEXT    NOT NULL,
    user_id  TEXT    NOT NULL,
    name     TEXT    NOT NULL,
    url      TEXT    NOT NULL,
    dialect  TEXT    NOT NULL,
    whole    INTEGER NOT NULL CHECK (whole IN (0, 1)),
    schemes  TEXT    NOT NULL, -- JSON
    sealed   BLOB,             -- secrets, which the database cannot read
    told     INTEGER NOT NULL,
    failures INTEGER NOT NULL,
    set_at   INTEGER NOT NULL,
    done_at  INTEGER
) STRICT;
CREATE UNIQUE INDEX push_configs_by_task ON push_configs (task_id, user_id, name);
CREATE INDEX push_configs_done ON push_configs (done_at) WHERE done_at IS NOT NULL;

-- +goose Down

DROP TABLE push_configs;
ALTER TABLE tasks DROP COLUMN push;
