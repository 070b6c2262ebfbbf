-- +goose Up

-- Agents are found by words and terms in bands of five points of trust, best first: what begins an entry of agent_index is the
-- band in two digits, and agent_terms has a column for it. So the best of many agents are found without looking at the
-- rest, and an agent's entries change only when its score gets into another band.
ALTER TABLE agent_terms ADD COLUMN band SMALLINT NOT NULL DEFAULT 0;

-- The live agents. Of each: its words, which count by their first 60 letters, #tags, !skills and =category, each after the band.
-- A word has a place for each of its fields: 1A for the name, 2B for skills, 3D for the description.
CREATE TABLE agent_index (
    agent_id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    price BIGINT NOT NULL,
    terms tsvector NOT NULL
);

-- +goose StatementBegin
CREATE FUNCTION agent_index_terms(a agents) RETURNS tsvector LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT COALESCE(string_agg(chr(39) || lpad(floor(a.trust_score / 5)::int::text, 2, '0') || replace(replace(x.entry, '\', '\\'), chr(39), chr(39) || chr(39)) || chr(39) || x.places, ' '), '')::tsvector FROM (
        SELECT left(w.word, 60) AS entry, ':' || string_agg(DISTINCT w.place, ',') AS places FROM (
            SELECT unnest(string_to_array(a.search_name, ' ')) AS word, '1A' AS place
            UNION ALL SELECT unnest(string_to_array(a.search_skills, ' ')), '2B'
            UNION ALL SELECT unnest(string_to_array(a.search_description, ' ')), '3D'
        ) AS w WHERE w.word <> '' GROUP BY 1
        UNION ALL SELECT CASE t.kind WHEN 'tag' THEN '#' ELSE '!' END || t.term, '' FROM agent_terms AS t WHERE t.agent_id = a.id
        UNION ALL SELECT '=' || a.effective_category, '' WHERE a.effective_category <> ''
    ) AS x
$$;
-- +goose StatementEnd

-- What the index has: also ^ and the first one to four letters of each word, so that a beginning that many words have is one entry.
-- +goose StatementBegin
CREATE FUNCTION agent_index_prefixed(terms tsvector) RETURNS tsvector LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT array_to_tsvector(ARRAY(
        SELECT t.lexeme FROM unnest(terms) AS t
        UNION SELECT left(t.lexeme, 2) || '^' || substr(t.lexeme, 3, n) FROM unnest(terms) AS t, generate_series(1, 4) AS n
            WHERE t.positions IS NOT NULL AND char_length(t.lexeme) >= n + 2))
$$;
-- +goose StatementEnd

-- Whoever changes what an agent is found by calls this. What its score does to it, the trigger sees to.
-- +goose StatementBegin
CREATE PROCEDURE index_agent(which text) LANGUAGE sql AS $$
    DELETE FROM agent_index WHERE agent_id = which AND NOT EXISTS (SELECT 1 FROM agents WHERE id = which AND deleted_at IS NULL);
    UPDATE agent_terms AS t SET band = floor(a.trust_score / 5) FROM agents AS a WHERE a.id = which AND t.agent_id = which AND t.band <> floor(a.trust_score / 5);
    INSERT INTO agent_index (agent_id, price, terms)
        SELECT a.id, a.price, agent_index_terms(a) FROM agents AS a WHERE a.id = which AND a.deleted_at IS NULL
        ON CONFLICT (agent_id) DO UPDATE SET price = excluded.price, terms = excluded.terms WHERE agent_index.price <> excluded.price OR agent_index.terms <> excluded.terms
$$;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE FUNCTION agents_move() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE agent_terms SET band = floor(NEW.trust_score / 5) WHERE agent_id = NEW.id;
    UPDATE agent_index SET terms = agent_index_terms(NEW) WHERE agent_id = NEW.id;
    RETURN NULL;
END $$;
-- +goose StatementEnd
CREATE TRIGGER agents_moved AFTER UPDATE OF trust_score ON agents FOR EACH ROW
    WHEN (floor(NEW.trust_score / 5) <> floor(OLD.trust_score / 5)) EXECUTE FUNCTION agents_move();

UPDATE agent_terms AS t SET band = floor(a.trust_score / 5) FROM agents AS a WHERE a.id = t.agent_id AND a.trust_score >= 5;
INSERT INTO agent_index (agent_id, price, terms)
    SELECT a.id, a.price, agent_index_terms(a) FROM agents AS a WHERE a.deleted_at IS NULL;

CREATE INDEX agent_terms_by_band ON agent_terms (kind, term, band DESC, agent_id);
CREATE INDEX agent_index_by_terms ON agent_index USING gin (agent_index_prefixed(terms)) WITH (fastupdate = off);
ANALYZE agent_terms;
ANALYZE agent_index;

-- The agents' own row had an index of words, which every change of a score had to write again.
DROP INDEX agents_by_words;
ALTER TABLE agents DROP COLUMN words;
DROP FUNCTION agent_words(text);

-- A pass over the payments looks at the agents that are damped, and at no others that it does not damp.
CREATE INDEX trust_profiles_damped ON trust_profiles (agent_id, damping) WHERE damping < 1;

-- +goose Down

DROP INDEX trust_profiles_damped;
-- +goose StatementBegin
CREATE FUNCTION agent_words(text) RETURNS tsvector LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT array_to_tsvector(ARRAY(SELECT DISTINCT left(w, 60) FROM unnest(string_to_array($1, ' ')) AS w WHERE w <> ''))
$$;
-- +goose StatementEnd
ALTER TABLE agents ADD COLUMN words tsvector GENERATED ALWAYS AS (agent_words(search_name || search_skills || search_description)) STORED;
CREATE INDEX agents_by_words ON agents USING gin (words) WITH (fastupdate = off);
DROP INDEX agent_terms_by_band;
DROP TRIGGER agents_moved ON agents;
DROP FUNCTION agents_move();
DROP PROCEDURE index_agent(text);
DROP FUNCTION agent_index_terms(agents);
DROP TABLE agent_index;
DROP FUNCTION agent_index_prefixed(tsvector);
ALTER TABLE agent_terms DROP COLUMN band;
