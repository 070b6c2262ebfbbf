-- +goose Up

CREATE TABLE purchases (
    id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    user_id TEXT COLLATE "C" NOT NULL,
    package_id TEXT COLLATE "C" NOT NULL,
    credits BIGINT NOT NULL CHECK (credits > 0),
    price BIGINT NOT NULL CHECK (price > 0), -- in the currency's smallest unit
    currency TEXT COLLATE "C" NOT NULL,
    provider TEXT COLLATE "C" NOT NULL,
    session_id TEXT COLLATE "C" UNIQUE,
    payment_id TEXT COLLATE "C" NOT NULL,
    status TEXT COLLATE "C" NOT NULL CHECK (status IN ('started', 'open', 'waiting', 'paid', 'failed', 'expired', 'refused')),
    reversed BIGINT NOT NULL CHECK (reversed BETWEEN 0 AND credits),
    reversals BIGINT NOT NULL,
    note TEXT COLLATE "C" NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE INDEX purchases_by_user ON purchases (user_id, created_at DESC, id DESC);
CREATE INDEX purchases_by_payment ON purchases (payment_id) WHERE payment_id <> '';
CREATE INDEX purchases_refused ON purchases (updated_at) WHERE status = 'refused'; -- for the operator

-- What went back of payments. It only grows, and may be known before the purchase is.
CREATE TABLE payments (
    id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    currency TEXT COLLATE "C" NOT NULL,
    refunded BIGINT NOT NULL CHECK (refunded >= 0),
    lost TEXT COLLATE "C" NOT NULL -- JSON: amounts by dispute
);

-- What providers told, reduced to what is needed: no card, no address, no e-mail.
CREATE TABLE payment_events (
    key TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    id TEXT COLLATE "C" NOT NULL,
    provider TEXT COLLATE "C" NOT NULL,
    kind TEXT COLLATE "C" NOT NULL,
    session_id TEXT COLLATE "C" NOT NULL,
    payment_id TEXT COLLATE "C" NOT NULL,
    dispute_id TEXT COLLATE "C" NOT NULL,
    purchase_id TEXT COLLATE "C" NOT NULL,
    user_id TEXT COLLATE "C" NOT NULL,
    package_id TEXT COLLATE "C" NOT NULL,
    amount BIGINT NOT NULL,
    currency TEXT COLLATE "C" NOT NULL,
    at BIGINT NOT NULL,
    received_at BIGINT NOT NULL,
    outcome TEXT COLLATE "C" NOT NULL
);

-- Credits that admins gave, and why.
CREATE TABLE credit_grants (
    id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    user_id TEXT COLLATE "C" NOT NULL,
    by_user_id TEXT COLLATE "C" NOT NULL,
    credits BIGINT NOT NULL CHECK (credits > 0),
    reason TEXT COLLATE "C" NOT NULL,
    at BIGINT NOT NULL
);
CREATE INDEX credit_grants_by_age ON credit_grants (at DESC, id DESC);
CREATE INDEX credit_grants_by_user ON credit_grants (user_id, at DESC, id DESC);
-- +goose StatementBegin
CREATE FUNCTION grants_are_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'grants are append-only';
END $$;
-- +goose StatementEnd
CREATE TRIGGER credit_grants_keep BEFORE UPDATE OR DELETE ON credit_grants FOR EACH ROW EXECUTE FUNCTION grants_are_append_only();
CREATE TRIGGER credit_grants_stay BEFORE TRUNCATE ON credit_grants FOR EACH STATEMENT EXECUTE FUNCTION grants_are_append_only();
ALTER TABLE credit_grants ENABLE ALWAYS TRIGGER credit_grants_keep;
ALTER TABLE credit_grants ENABLE ALWAYS TRIGGER credit_grants_stay;

-- +goose Down

DROP TABLE credit_grants;
DROP FUNCTION grants_are_append_only();
DROP TABLE payment_events;
DROP TABLE payments;
DROP TABLE purchases;
