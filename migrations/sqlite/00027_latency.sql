-- +goose Up

-- How long a task of the agent usually takes; NULL as long as that is not known. trust_profiles has what it is worked out from: trust.Latency.
ALTER TABLE agents ADD COLUMN latency_ms INTEGER;
CREATE INDEX agents_by_latency ON agents (latency_ms) WHERE deleted_at IS NULL AND latency_ms IS NOT NULL;
ALTER TABLE trust_profiles ADD COLUMN latency_first REAL NOT NULL DEFAULT 0;
ALTER TABLE trust_profiles ADD COLUMN latency_second REAL NOT NULL DEFAULT 0;
ALTER TABLE trust_profiles ADD COLUMN latency_sum REAL NOT NULL DEFAULT 0;
ALTER TABLE trust_profiles ADD COLUMN latency_weight REAL NOT NULL DEFAULT 0;
ALTER TABLE trust_profiles ADD COLUMN latency_ms INTEGER NOT NULL DEFAULT 0;

-- +goose Down

ALTER TABLE trust_profiles DROP COLUMN latency_ms;
ALTER TABLE trust_profiles DROP COLUMN latency_weight;
ALTER TABLE trust_profiles DROP COLUMN latency_sum;
ALTER TABLE trust_profiles DROP COLUMN latency_second;
ALTER TABLE trust_profiles DROP COLUMN latency_first;
DROP INDEX agents_by_latency;
ALTER TABLE agents DROP COLUMN latency_ms;
