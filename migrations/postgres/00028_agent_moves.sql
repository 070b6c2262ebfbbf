-- +goose Up

-- Who changed when: the transaction that changed each agent last, and the last that changed what it is found by. Whoever keeps agents in memory
-- reads those that were not visible to it when it last looked, and so misses none, in whatever order they end.
CREATE TABLE agent_moves (
    agent_id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    moved BIGINT NOT NULL,
    renewed BIGINT NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0.05);
CREATE INDEX agent_moves_by_time ON agent_moves (moved, agent_id);

-- +goose StatementBegin
CREATE FUNCTION agents_note() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    now_is BIGINT := pg_current_xact_id()::text::bigint;
    same BOOLEAN := false;
BEGIN
    IF TG_OP = 'UPDATE' THEN -- words are never saved without a new version
        same := NEW.version = OLD.version OR NEW.search_name = OLD.search_name AND NEW.search_skills = OLD.search_skills AND NEW.search_description = OLD.search_description
            AND NEW.effective_category = OLD.effective_category AND NEW.tags = OLD.tags AND NEW.skills = OLD.skills;
    END IF;
    INSERT INTO agent_moves (agent_id, moved, renewed) VALUES (COALESCE(NEW.id, OLD.id), now_is, CASE WHEN same THEN 0 ELSE now_is END)
        ON CONFLICT (agent_id) DO UPDATE SET moved = excluded.moved, renewed = CASE excluded.renewed WHEN 0 THEN agent_moves.renewed ELSE excluded.renewed END
        WHERE agent_moves.moved <> excluded.moved OR excluded.renewed <> 0 AND agent_moves.renewed <> excluded.renewed;
    RETURN NULL;
END $$;
-- +goose StatementEnd
CREATE TRIGGER agents_noted AFTER INSERT OR UPDATE OR DELETE ON agents FOR EACH ROW EXECUTE FUNCTION agents_note();

-- +goose Down

DROP TRIGGER agents_noted ON agents;
DROP FUNCTION agents_note();
DROP TABLE agent_moves;
