-- +goose Up

-- Who changed when: each agent's last transaction. Whoever keeps agents in memory reads from the oldest transaction on that had not ended
-- when it last looked, and so misses none, in whatever order they end.
CREATE TABLE agent_moves (
    agent_id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    moved BIGINT NOT NULL
);
CREATE INDEX agent_moves_by_time ON agent_moves (moved, agent_id);

-- +goose StatementBegin
CREATE FUNCTION agents_note() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO agent_moves (agent_id, moved) VALUES (COALESCE(NEW.id, OLD.id), pg_current_xact_id()::text::bigint)
        ON CONFLICT (agent_id) DO UPDATE SET moved = excluded.moved WHERE agent_moves.moved <> excluded.moved;
    RETURN NULL;
END $$;
-- +goose StatementEnd
CREATE TRIGGER agents_noted AFTER INSERT OR UPDATE OR DELETE ON agents FOR EACH ROW EXECUTE FUNCTION agents_note();

-- +goose Down

DROP TRIGGER agents_noted ON agents;
DROP FUNCTION agents_note();
DROP TABLE agent_moves;
