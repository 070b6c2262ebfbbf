-- +goose Up

ALTER TABLE jobs ADD COLUMN trace TEXT COLLATE "C" NOT NULL DEFAULT ''; -- W3C traceparent, or empty

-- With the status, counting the open tasks by state reads no rows.
DROP INDEX tasks_open;
CREATE INDEX tasks_open ON tasks (timeout_at, id, agent_id, status) WHERE status IN ('pending', 'assigned', 'running');

-- +goose Down

DROP INDEX tasks_open;
CREATE INDEX tasks_open ON tasks (timeout_at, id, agent_id) WHERE status IN ('pending', 'assigned', 'running');
ALTER TABLE jobs DROP COLUMN trace;
