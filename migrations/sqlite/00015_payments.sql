-- +goose Up

CREATE TABLE purchases (
    id TEXT NOT NULL PRIMARY KEY,
    user_id TEXT NOT NULL,
    package_id TEXT NOT NULL,
    credits INTEGER NOT NULL CHECK (credits > 0),
    price INTEGER NOT NULL CHECK (price > 0), -- in the currency's smallest unit
    currency TEXT NOT NULL,
    provider TEXT NOT NULL,
    session_id TEXT UNIQUE,
    payment_id TEXT NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('started', 'open', 'waiting', 'paid', 'failed', 'expired', 'refused')),
    reversed INTEGER NOT NULL CHECK (reversed BETWEEN 0 AND credits),
    reversals INTEGER NOT NULL,
    note TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT;
CREATE INDEX purchases_by_user ON purchases (user_id, created_at DESC, id DESC);
CREATE INDEX purchases_by_payment ON purchases (payment_id) WHERE payment_id <> '';
CREATE INDEX purchases_refused ON purchases (updated_at) WHERE status = 'refused'; -- for the operator

-- What went back of payments. It only grows, and may be known before the purchase is.
CREATE TABLE payments (
    id TEXT NOT NULL PRIMARY KEY,
    currency TEXT NOT NULL,
    refunded INTEGER NOT NULL CHECK (refunded >= 0),
    lost TEXT NOT NULL -- JSON: amounts by dispute
) STRICT, WITHOUT ROWID;

-- What providers told, reduced to what is needed: no card, no address, no e-mail.
CREATE TABLE payment_events (
    key TEXT NOT NULL PRIMARY KEY,
    id TEXT NOT NULL,
    provider TEXT NOT NULL,
    kind TEXT NOT NULL,
    session_id TEXT NOT NULL,
    payment_id TEXT NOT NULL,
    dispute_id TEXT NOT NULL,
    purchase_id TEXT NOT NULL,
    user_id TEXT NOT NULL,
    package_id TEXT NOT NULL,
    amount INTEGER NOT NULL,
    currency TEXT NOT NULL,
    at INTEGER NOT NULL,
    received_at INTEGER NOT NULL,
    outcome TEXT NOT NULL
) STRICT;

-- Credits that admins gave, and why.
CREATE TABLE credit_grants (
    id TEXT NOT NULL PRIMARY KEY,
    user_id TEXT NOT NULL,
    by_user_id TEXT NOT NULL,
    credits INTEGER NOT NULL CHECK (credits > 0),
    reason TEXT NOT NULL,
    at INTEGER NOT NULL
) STRICT;
CREATE INDEX credit_grants_by_age ON credit_grants (at DESC, id DESC);
CREATE INDEX credit_grants_by_user ON credit_grants (user_id, at DESC, id DESC);
-- +goose StatementBegin
CREATE TRIGGER credit_grants_keep BEFORE UPDATE ON credit_grants BEGIN
    SELECT RAISE(ABORT, 'grants are append-only');
END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER credit_grants_stay BEFORE DELETE ON credit_grants BEGIN
    SELECT RAISE(ABORT, 'grants are append-only');
END;
-- +goose StatementEnd

-- +goose Down

DROP TABLE credit_grants;
DROP TABLE payment_events;
DROP TABLE payments;
DROP TABLE purchases;
