-- +goose Up

-- The beginnings of words have lists of their own, so that a beginning that most agents have is not put together out of its words.
DROP TABLE agent_words;
CREATE VIRTUAL TABLE agent_words USING fts5 (words, content = '', contentless_delete = 1, detail = 'none', prefix = '1 2 3', tokenize = 'unicode61 remove_diacritics 0');
INSERT INTO agent_words (rowid, words) SELECT seq, search_name || search_skills || search_description FROM agents WHERE deleted_at IS NULL;

-- A pass over the payments looks at the agents that are damped, and at no others that it does not damp.
CREATE INDEX trust_profiles_damped ON trust_profiles (agent_id, damping) WHERE damping < 1;

-- +goose Down

DROP INDEX trust_profiles_damped;
DROP TABLE agent_words;
CREATE VIRTUAL TABLE agent_words USING fts5 (words, content = '', contentless_delete = 1, detail = 'none', tokenize = 'unicode61 remove_diacritics 0');
INSERT INTO agent_words (rowid, words) SELECT seq, search_name || search_skills || search_description FROM agents WHERE deleted_at IS NULL;
