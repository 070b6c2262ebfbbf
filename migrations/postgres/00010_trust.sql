-- +goose Up

ALTER TABLE agents ADD COLUMN trust_bound DOUBLE PRECISION NOT NULL DEFAULT 0;
UPDATE agents SET trust_bound = CASE WHEN trust_score > 12 THEN trust_score - 12 ELSE 0 END; -- until its next evidence

ALTER TABLE trust_profiles
    ADD COLUMN events BIGINT NOT NULL DEFAULT 0,
    ADD COLUMN start DOUBLE PRECISION NOT NULL DEFAULT 50,
    ADD COLUMN damping DOUBLE PRECISION NOT NULL DEFAULT 1,
    ADD COLUMN reliability_fresh_sum DOUBLE PRECISION NOT NULL DEFAULT 0,
    ADD COLUMN reliability_fresh_weight DOUBLE PRECISION NOT NULL DEFAULT 0,
    ADD COLUMN speed_fresh_sum DOUBLE PRECISION NOT NULL DEFAULT 0,
    ADD COLUMN speed_fresh_weight DOUBLE PRECISION NOT NULL DEFAULT 0,
    ADD COLUMN quality_fresh_sum DOUBLE PRECISION NOT NULL DEFAULT 0,
    ADD COLUMN quality_fresh_weight DOUBLE PRECISION NOT NULL DEFAULT 0,
    ADD COLUMN bound DOUBLE PRECISION NOT NULL DEFAULT 0;

-- Events from before have no seq: the profile they led to cannot be worked out from them again.
ALTER TABLE trust_events
    ADD COLUMN seq BIGINT NOT NULL DEFAULT 0,
    ADD COLUMN weight DOUBLE PRECISION NOT NULL DEFAULT 0,
    ADD COLUMN speed DOUBLE PRECISION NOT NULL DEFAULT -1,
    ADD COLUMN damping DOUBLE PRECISION NOT NULL DEFAULT 1;

-- What a requester and an agent had to do with each other. Who writes here holds the agent's evidence.
CREATE TABLE trust_pairs (
    agent_id TEXT COLLATE "C" NOT NULL,
    user_id TEXT COLLATE "C" NOT NULL,
    owner_user_id TEXT COLLATE "C" NOT NULL,
    tasks DOUBLE PRECISION NOT NULL,
    paid DOUBLE PRECISION NOT NULL,
    full_weight DOUBLE PRECISION NOT NULL,
    counted DOUBLE PRECISION NOT NULL,
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (agent_id, user_id)
);

CREATE TABLE trust_raters (
    user_id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    standing DOUBLE PRECISION NOT NULL,
    seen BIGINT NOT NULL CHECK (seen IN (0, 1)),
    agreed DOUBLE PRECISION NOT NULL,
    disagreed DOUBLE PRECISION NOT NULL
);

-- The words of an agent, for text search. A word counts by its first 60 letters: an index takes no word of any length.
-- +goose StatementBegin
CREATE FUNCTION agent_words(text) RETURNS tsvector LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT array_to_tsvector(ARRAY(SELECT DISTINCT left(w, 60) FROM unnest(string_to_array($1, ' ')) AS w WHERE w <> ''))
$$;
-- +goose StatementEnd
ALTER TABLE agents ADD COLUMN words tsvector GENERATED ALWAYS AS (agent_words(search_name || search_skills || search_description)) STORED;
CREATE INDEX agents_by_words ON agents USING gin (words) WITH (fastupdate = off);


-- Agents that were found by a tag or a skill are narrowed and ordered without reading their rows.
CREATE INDEX agents_narrow ON agents (id, trust_score, price, created_at, effective_category, status, last_heartbeat) WHERE deleted_at IS NULL;

CREATE INDEX agents_given_up ON agents (owner_user_id) WHERE deleted_at IS NOT NULL;

-- +goose Down

DROP INDEX agents_given_up;
DROP INDEX agents_by_words;
DROP INDEX agents_narrow;
ALTER TABLE agents DROP COLUMN words;
DROP FUNCTION agent_words(text);
DROP TABLE trust_raters;
DROP TABLE trust_pairs;
ALTER TABLE trust_events DROP COLUMN seq, DROP COLUMN weight, DROP COLUMN speed, DROP COLUMN damping;
ALTER TABLE trust_profiles
    DROP COLUMN events, DROP COLUMN start, DROP COLUMN damping, DROP COLUMN reliability_fresh_sum, DROP COLUMN reliability_fresh_weight,
    DROP COLUMN speed_fresh_sum, DROP COLUMN speed_fresh_weight, DROP COLUMN quality_fresh_sum, DROP COLUMN quality_fresh_weight, DROP COLUMN bound;
ALTER TABLE agents DROP COLUMN trust_bound;
