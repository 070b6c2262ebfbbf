-- +goose Up

-- agent_index has all in the row that a search looks at, but for the exact score, so that no other table is asked about each agent that
-- has a word; and it has the entries as they are in its index, which were worked out anew with every change of it: words with a
-- place for each of their fields (1A for the name, 2B for skills, 3D for the description), ^ and the first one and two letters of each,
-- #tags, !skills and =category, each after the band in two digits.
--
-- A band is of five points of trust, or a little lower: an agent goes up at once, and down when its score is two points
-- below the band, so that a score at the edge does not move the agent's entries again and again.
DROP TRIGGER agents_moved ON agents;
DROP FUNCTION agents_move();
DROP PROCEDURE index_agent(text);
DROP TABLE agent_index;
DROP FUNCTION agent_index_terms(agents);
DROP FUNCTION agent_index_prefixed(tsvector);

CREATE TABLE agent_index (
    agent_id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    created_at BIGINT NOT NULL,
    price BIGINT NOT NULL,
    last_heartbeat BIGINT,
    band SMALLINT NOT NULL,
    status TEXT COLLATE "C" NOT NULL,
    terms tsvector NOT NULL
) WITH (fillfactor = 85); -- a heartbeat's new row fits into the same page, and no index hears of it

-- All words that agents have, or had. A beginning of a few of them is asked for as these, which the index finds and narrows by other entries much
-- sooner than all that begins like it.
CREATE TABLE agent_vocabulary (
    word TEXT COLLATE "C" NOT NULL PRIMARY KEY
);

-- +goose StatementBegin
CREATE FUNCTION agent_index_terms(a agents) RETURNS tsvector LANGUAGE sql STABLE PARALLEL SAFE AS $$
    WITH w AS MATERIALIZED (SELECT left(w.word, 60) AS word, string_agg(DISTINCT w.place, ',') AS places FROM (
        SELECT unnest(string_to_array(a.search_name, ' ')) AS word, '1A' AS place
        UNION ALL SELECT unnest(string_to_array(a.search_skills, ' ')), '2B'
        UNION ALL SELECT unnest(string_to_array(a.search_description, ' ')), '3D'
    ) AS w WHERE w.word <> '' GROUP BY 1)
    SELECT COALESCE(string_agg(chr(39) || lpad(floor(a.trust_score / 5)::int::text, 2, '0') || replace(replace(x.entry, '\', '\\'), chr(39), chr(39) || chr(39)) || chr(39) || x.places, ' '), '')::tsvector FROM (
        SELECT w.word AS entry, ':' || w.places AS places FROM w
        UNION ALL SELECT DISTINCT '^' || left(w.word, n), '' FROM w, generate_series(1, 2) AS n WHERE char_length(w.word) >= n
        UNION ALL SELECT CASE t.kind WHEN 'tag' THEN '#' ELSE '!' END || t.term, '' FROM agent_terms AS t WHERE t.agent_id = a.id
        UNION ALL SELECT '=' || a.effective_category, '' WHERE a.effective_category <> ''
    ) AS x
$$;
-- +goose StatementEnd

-- Whoever changes what an agent is found by calls this. What its score, its status and its heartbeats do to it, the triggers see to.
-- +goose StatementBegin
CREATE PROCEDURE index_agent(which text) LANGUAGE sql AS $$
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

-- +goose StatementBegin
CREATE FUNCTION agents_move() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE agent_index SET band = floor(NEW.trust_score / 5), terms = agent_index_terms(NEW)
        WHERE agent_id = NEW.id AND (NEW.trust_score >= band * 5 + 5 OR NEW.trust_score < band * 5 - 2);
    IF FOUND THEN
        UPDATE agent_terms SET band = floor(NEW.trust_score / 5) WHERE agent_id = NEW.id;
    END IF;
    RETURN NULL;
END $$;
-- +goose StatementEnd
CREATE TRIGGER agents_moved AFTER UPDATE OF trust_score ON agents FOR EACH ROW
    WHEN (floor(NEW.trust_score / 5) > floor(OLD.trust_score / 5) OR floor((NEW.trust_score + 2) / 5) < floor((OLD.trust_score + 2) / 5)) EXECUTE FUNCTION agents_move();

-- +goose StatementBegin
CREATE FUNCTION agents_beat() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE agent_index SET status = NEW.status, last_heartbeat = NEW.last_heartbeat WHERE agent_id = NEW.id;
    RETURN NULL;
END $$;
-- +goose StatementEnd
CREATE TRIGGER agents_beaten AFTER UPDATE OF status, last_heartbeat ON agents FOR EACH ROW
    WHEN (NEW.status <> OLD.status OR NEW.last_heartbeat IS DISTINCT FROM OLD.last_heartbeat) EXECUTE FUNCTION agents_beat();

UPDATE agent_terms AS t SET band = floor(a.trust_score / 5) FROM agents AS a WHERE a.id = t.agent_id AND t.band <> floor(a.trust_score / 5);
INSERT INTO agent_index (agent_id, created_at, price, last_heartbeat, band, status, terms)
    SELECT a.id, a.created_at, a.price, a.last_heartbeat, floor(a.trust_score / 5), a.status, agent_index_terms(a) FROM agents AS a WHERE a.deleted_at IS NULL;
INSERT INTO agent_vocabulary (word)
    SELECT DISTINCT left(w.word, 60) FROM agents AS a, unnest(string_to_array(a.search_name || a.search_skills || a.search_description, ' ')) AS w (word) WHERE a.deleted_at IS NULL AND w.word <> '';
CREATE INDEX agent_index_by_terms ON agent_index USING gin (terms) WITH (fastupdate = off);
ANALYZE agent_index;
ANALYZE agent_vocabulary;

-- What has a term is found by agent_terms_by_band; whether an agent has it, by the key.
ALTER TABLE agent_terms DROP CONSTRAINT agent_terms_pkey;
DROP INDEX agent_terms_by_agent;
ALTER TABLE agent_terms ADD PRIMARY KEY (agent_id, kind, term);

-- +goose Down

ALTER TABLE agent_terms DROP CONSTRAINT agent_terms_pkey;
ALTER TABLE agent_terms ADD PRIMARY KEY (kind, term, agent_id);
CREATE INDEX agent_terms_by_agent ON agent_terms (agent_id);
DROP TRIGGER agents_beaten ON agents;
DROP TRIGGER agents_moved ON agents;
DROP FUNCTION agents_beat();
DROP FUNCTION agents_move();
DROP PROCEDURE index_agent(text);
DROP TABLE agent_index;
DROP FUNCTION agent_index_terms(agents);
DROP TABLE agent_vocabulary;
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

UPDATE agent_terms AS t SET band = floor(a.trust_score / 5) FROM agents AS a WHERE a.id = t.agent_id AND t.band <> floor(a.trust_score / 5);
INSERT INTO agent_index (agent_id, price, terms)
    SELECT a.id, a.price, agent_index_terms(a) FROM agents AS a WHERE a.deleted_at IS NULL;

CREATE INDEX agent_index_by_terms ON agent_index USING gin (agent_index_prefixed(terms)) WITH (fastupdate = off);
ANALYZE agent_index;
