-- +goose Up

-- Who changed in which order. Whoever keeps agents in memory reads on from where it was.
CREATE TABLE agent_moves (
    agent_id TEXT NOT NULL PRIMARY KEY,
    moved INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX agent_moves_by_time ON agent_moves (moved, agent_id);

-- +goose StatementBegin
CREATE TRIGGER agents_noted AFTER INSERT ON agents BEGIN
    INSERT INTO agent_moves (agent_id, moved) VALUES (NEW.id, (SELECT COALESCE(MAX(moved), 0) + 1 FROM agent_moves))
        ON CONFLICT (agent_id) DO UPDATE SET moved = excluded.moved;
END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER agents_noted_again AFTER UPDATE ON agents BEGIN
    INSERT INTO agent_moves (agent_id, moved) VALUES (NEW.id, (SELECT COALESCE(MAX(moved), 0) + 1 FROM agent_moves))
        ON CONFLICT (agent_id) DO UPDATE SET moved = excluded.moved;
END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER agents_noted_gone AFTER DELETE ON agents BEGIN
    INSERT INTO agent_moves (agent_id, moved) VALUES (OLD.id, (SELECT COALESCE(MAX(moved), 0) + 1 FROM agent_moves))
        ON CONFLICT (agent_id) DO UPDATE SET moved = excluded.moved;
END;
-- +goose StatementEnd

-- +goose Down

DROP TRIGGER agents_noted_gone;
DROP TRIGGER agents_noted_again;
DROP TRIGGER agents_noted;
DROP TABLE agent_moves;
