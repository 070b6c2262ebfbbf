-- +goose Up

-- How long a task of the agent usually takes; NULL as long as that is not known. trust_profiles has what it is worked out from: trust.Latency.
ALTER TABLE agents ADD COLUMN latency_ms BIGINT;
CREATE INDEX agents_by_latency ON agents (latency_ms) WHERE deleted_at IS NULL AND latency_ms IS NOT NULL;
ALTER TABLE trust_profiles
    ADD COLUMN latency_first DOUBLE PRECISION NOT NULL DEFAULT 0,
    ADD COLUMN latency_second DOUBLE PRECISION NOT NULL DEFAULT 0,
    ADD COLUMN latency_sum DOUBLE PRECISION NOT NULL DEFAULT 0,
    ADD COLUMN latency_weight DOUBLE PRECISION NOT NULL DEFAULT 0,
    ADD COLUMN latency_ms BIGINT NOT NULL DEFAULT 0;

-- The index's row knows it too, as it knows the status.
ALTER TABLE agent_index ADD COLUMN latency_ms BIGINT;

-- +goose StatementBegin
CREATE OR REPLACE PROCEDURE index_agent(which text) LANGUAGE sql AS $$
    DELETE FROM agent_index WHERE agent_id = which AND NOT EXISTS (SELECT 1 FROM agents WHERE id = which AND deleted_at IS NULL);
    UPDATE agent_terms AS t SET band = floor(a.trust_score / 5) FROM agents AS a WHERE a.id = which AND t.agent_id = which AND t.band <> floor(a.trust_score / 5);
    INSERT INTO agent_vocabulary (word)
        SELECT DISTINCT left(w.word, 60) AS word FROM agents AS a, unnest(string_to_array(a.search_name || a.search_skills || a.search_description, ' ')) AS w (word)
        WHERE a.id = which AND a.deleted_at IS NULL AND w.word <> '' ORDER BY word ON CONFLICT DO NOTHING;
    INSERT INTO agent_index (agent_id, created_at, price, last_heartbeat, latency_ms, band, status, terms)
        SELECT a.id, a.created_at, a.price, a.last_heartbeat, a.latency_ms, floor(a.trust_score / 5), a.status, agent_index_terms(a) FROM agents AS a WHERE a.id = which AND a.deleted_at IS NULL
        ON CONFLICT (agent_id) DO UPDATE SET price = excluded.price, band = excluded.band, terms = excluded.terms WHERE agent_index.price <> excluded.price OR agent_index.terms <> excluded.terms
$$;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE OR REPLACE FUNCTION agents_beat() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE agent_index SET status = NEW.status, last_heartbeat = NEW.last_heartbeat, latency_ms = NEW.latency_ms WHERE agent_id = NEW.id;
    RETURN NULL;
END $$;
-- +goose StatementEnd
DROP TRIGGER agents_beaten ON agents;
CREATE TRIGGER agents_beaten AFTER UPDATE OF status, last_heartbeat, latency_ms ON agents FOR EACH ROW
    WHEN (NEW.status <> OLD.status OR NEW.last_heartbeat IS DISTINCT FROM OLD.last_heartbeat OR NEW.latency_ms IS DISTINCT FROM OLD.latency_ms) EXECUTE FUNCTION agents_beat();

-- +goose Down

DROP TRIGGER agents_beaten ON agents;
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION agents_beat() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE agent_index SET status = NEW.status, last_heartbeat = NEW.last_heartbeat WHERE agent_id = NEW.id;
    RETURN NULL;
END $$;
-- +goose StatementEnd
CREATE TRIGGER agents_beaten AFTER UPDATE OF status, last_heartbeat ON agents FOR EACH ROW
    WHEN (NEW.status <> OLD.status OR NEW.last_heartbeat IS DISTINCT FROM OLD.last_heartbeat) EXECUTE FUNCTION agents_beat();

-- +goose StatementBegin
CREATE OR REPLACE PROCEDURE index_agent(which text) LANGUAGE sql AS $$
    DELETE FROM agent_index WHERE agent_id = which AND NOT EXISTS (SELECT 1 FROM agents WHERE id = which AND deleted_at IS NULL);
    UPDATE agent_terms AS t SET band = floor(a.trust_score / 5) FROM agents AS a WHERE a.id = which AND t.agent_id = which AND t.band <> floor(a.trust_score / 5);
    INSERT INTO agent_vocabulary (word)
        SELECT DISTINCT left(w.word, 60) AS word FROM agents AS a, unnest(string_to_array(a.search_name || a.search_skills || a.search_description, ' ')) AS w (word)
        WHERE a.id = which AND a.deleted_at IS NULL AND w.word <> '' ORDER BY word ON CONFLICT DO NOTHING;
    INSERT INTO agent_index (agent_id, created_at, price, last_heartbeat, band, status, terms)
        SELECT a.id, a.created_at, a.price, a.last_heartbeat, floor(a.trust_score / 5), a.status, agent_index_terms(a) FROM agents AS a WHERE a.id = which AND a.deleted_at IS NULL
        ON CONFLICT (agent_id) DO UPDATE SET price = excluded.price, band = excluded.band, terms = excluded.terms WHERE agent_index.price <> excluded.price OR agent_index.terms <> excluded.terms
$$;
-- +goose StatementEnd

ALTER TABLE agent_index DROP COLUMN latency_ms;
ALTER TABLE trust_profiles DROP COLUMN latency_first, DROP COLUMN latency_second, DROP COLUMN latency_sum, DROP COLUMN latency_weight, DROP COLUMN latency_ms;
DROP INDEX agents_by_latency;
ALTER TABLE agents DROP COLUMN latency_ms;
