-- +goose Up

ALTER TABLE agents ADD COLUMN trust_bound REAL NOT NULL DEFAULT 0;
UPDATE agents SET trust_bound = CASE WHEN trust_score > 12 THEN trust_score - 12 ELSE 0 END; -- until its next evidence

ALTER TABLE trust_profiles ADD COLUMN events INTEGER NOT NULL DEFAULT 0;
ALTER TABLE trust_profiles ADD COLUMN start REAL NOT NULL DEFAULT 50;
ALTER TABLE trust_profiles ADD COLUMN damping REAL NOT NULL DEFAULT 1;
ALTER TABLE trust_profiles ADD COLUMN reliability_fresh_sum REAL NOT NULL DEFAULT 0;
ALTER TABLE trust_profiles ADD COLUMN reliability_fresh_weight REAL NOT NULL DEFAULT 0;
ALTER TABLE trust_profiles ADD COLUMN speed_fresh_sum REAL NOT NULL DEFAULT 0;
ALTER TABLE trust_profiles ADD COLUMN speed_fresh_weight REAL NOT NULL DEFAULT 0;
ALTER TABLE trust_profiles ADD COLUMN quality_fresh_sum REAL NOT NULL DEFAULT 0;
ALTER TABLE trust_profiles ADD COLUMN quality_fresh_weight REAL NOT NULL DEFAULT 0;
ALTER TABLE trust_profiles ADD COLUMN bound REAL NOT NULL DEFAULT 0;

-- Events from before have no seq: the profile they led to cannot be worked out from them again.
ALTER TABLE trust_events ADD COLUMN seq INTEGER NOT NULL DEFAULT 0;
ALTER TABLE trust_events ADD COLUMN weight REAL NOT NULL DEFAULT 0;
ALTER TABLE trust_events ADD COLUMN speed REAL NOT NULL DEFAULT -1;
ALTER TABLE trust_events ADD COLUMN damping REAL NOT NULL DEFAULT 1;

-- What a requester and an agent had to do with each other. Who writes here holds the agent's evidence.
CREATE TABLE trust_pairs (
    agent_id TEXT NOT NULL,
    user_id TEXT NOT NULL,
    owner_user_id TEXT NOT NULL,
    tasks REAL NOT NULL,
    paid REAL NOT NULL,
    full_weight REAL NOT NULL,
    counted REAL NOT NULL,
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (agent_id, user_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE trust_raters (
    user_id TEXT NOT NULL PRIMARY KEY,
    standing REAL NOT NULL,
    seen INTEGER NOT NULL CHECK (seen IN (0, 1)),
    agreed REAL NOT NULL,
    disagreed REAL NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX agents_given_up ON agents (owner_user_id) WHERE deleted_at IS NOT NULL;

-- +goose Down

DROP INDEX agents_given_up;
DROP TABLE trust_raters;
DROP TABLE trust_pairs;
ALTER TABLE trust_events DROP COLUMN seq;
ALTER TABLE trust_events DROP COLUMN weight;
ALTER TABLE trust_events DROP COLUMN speed;
ALTER TABLE trust_events DROP COLUMN damping;
ALTER TABLE trust_profiles DROP COLUMN events;
ALTER TABLE trust_profiles DROP COLUMN start;
ALTER TABLE trust_profiles DROP COLUMN damping;
ALTER TABLE trust_profiles DROP COLUMN reliability_fresh_sum;
ALTER TABLE trust_profiles DROP COLUMN reliability_fresh_weight;
ALTER TABLE trust_profiles DROP COLUMN speed_fresh_sum;
ALTER TABLE trust_profiles DROP COLUMN speed_fresh_weight;
ALTER TABLE trust_profiles DROP COLUMN quality_fresh_sum;
ALTER TABLE trust_profiles DROP COLUMN quality_fresh_weight;
ALTER TABLE trust_profiles DROP COLUMN bound;
ALTER TABLE agents DROP COLUMN trust_bound;
