-- +goose Up

-- What went back of payments may come again: a refund fails, a dispute is won after it was lost. So it is kept when each
-- thing was told. In lost an amount alone is one of which that is not known.
ALTER TABLE payments ADD COLUMN refunded_at BIGINT NOT NULL DEFAULT 0;
ALTER TABLE payments ADD COLUMN returned TEXT COLLATE "C" NOT NULL DEFAULT '{}'; -- JSON: by refund
ALTER TABLE payment_events ADD COLUMN refund_id TEXT COLLATE "C" NOT NULL DEFAULT '';

-- +goose Down

ALTER TABLE payment_events DROP COLUMN refund_id;
ALTER TABLE payments DROP COLUMN returned;
ALTER TABLE payments DROP COLUMN refunded_at;
UPDATE payments SET lost = (SELECT jsonb_object_agg(d.key, CASE jsonb_typeof(d.value) WHEN 'object' THEN d.value -> 'amount' ELSE d.value END)::text FROM jsonb_each(payments.lost::jsonb) AS d) WHERE lost <> '{}';
