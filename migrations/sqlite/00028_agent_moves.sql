-- +goose Up

-- Who changed in which order, and when what it is found by did last. Whoever keeps agents in memory reads on from where it was. Words are never
-- saved without a new version.
CREATE TABLE agent_moves (
    agent_id TEXT NOT NULL PRIMARY KEY,
    moved INTEGER NOT NULL,
    renewed INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX agent_moves_by_time ON agent_moves (moved, agent_id);

-- +goose StatementBegin
CREATE TRIGGER agents_noted AFTER INSERT ON agents BEGIN
    INSERT INTO agent_moves (agent_id, moved, renewed) SELECT NEW.id, n.n, n.n FROM (SELECT COALESCE(MAX(moved), 0) + 1 AS n FROM agent_moves) AS n WHERE true
        ON CONFLICT (agent_id) DO UPDATE SET moved = excluded.moved, renewed = CASE excluded.renewed WHEN 0 THEN renewed ELSE excluded.renewed END;
END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER agents_noted_again AFTER UPDATE ON agents BEGIN
    INSERT INTO agent_moves (agent_id, moved, renewed) SELECT NEW.id, n.n, CASE WHEN NEW.version = OLD.version OR NEW.search_name = OLD.search_name AND NEW.search_skills = OLD.search_skills
            AND NEW.search_description = OLD.search_description AND NEW.effective_category = OLD.effective_category AND NEW.tags = OLD.tags AND NEW.skills = OLD.skills THEN 0 ELSE n.n END FROM (SELECT COALESCE(MAX(moved), 0) + 1 AS n FROM agent_moves) AS n WHERE true
        ON CONFLICT (agent_id) DO UPDATE SET moved = excluded.moved, renewed = CASE excluded.renewed WHEN 0 THEN renewed ELSE excluded.renewed END;
END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER agents_noted_gone AFTER DELETE ON agents BEGIN
    INSERT INTO agent_moves (agent_id, moved, renewed) SELECT OLD.id, n.n, n.n FROM (SELECT COALESCE(MAX(moved), 0) + 1 AS n FROM agent_moves) AS n WHERE true
        ON CONFLICT (agent_id) DO UPDATE SET moved = excluded.moved, renewed = CASE excluded.renewed WHEN 0 THEN renewed ELSE excluded.renewed END;
END;
-- +goose StatementEnd

-- +goose Down

DROP TRIGGER agents_noted_gone;
DROP TRIGGER agents_noted_again;
DROP TRIGGER agents_noted;
DROP TABLE agent_moves;
