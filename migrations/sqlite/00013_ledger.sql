-- +goose Up

-- A balance is below zero by what was spent before its purchase was reversed, and for no other reason.
CREATE TABLE ledger_balances (
    user_id   TEXT    NOT NULL PRIMARY KEY,
    available INTEGER NOT NULL,
    held      INTEGER NOT NULL CHECK (held >= 0),
    granted   INTEGER NOT NULL,
    purchased INTEGER NOT NULL,
    earned    INTEGER NOT NULL,
    spent     INTEGER NOT NULL,
    reversed  INTEGER NOT NULL,
    CHECK (granted + purchased + earned - spent - held - reversed = available)
) STRICT, WITHOUT ROWID;
INSERT INTO ledger_balances SELECT user_id, available, held, granted, purchased, earned, spent, reversed FROM ledger_accounts;
DROP TABLE ledger_accounts;
ALTER TABLE ledger_balances RENAME TO ledger_accounts;

-- +goose StatementBegin
CREATE TRIGGER ledger_accounts_floor BEFORE UPDATE ON ledger_accounts
WHEN NEW.available < 0 AND NEW.available < OLD.available AND NEW.reversed - OLD.reversed < OLD.available - NEW.available BEGIN
    SELECT RAISE(ABORT, 'only a reversal takes more than there is');
END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER ledger_accounts_start BEFORE INSERT ON ledger_accounts WHEN NEW.available < 0 BEGIN
    SELECT RAISE(ABORT, 'only a reversal takes more than there is');
END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER ledger_accounts_stay BEFORE DELETE ON ledger_accounts BEGIN
    SELECT RAISE(ABORT, 'the ledger is append-only');
END;
-- +goose StatementEnd

-- The chain over the entries. Written behind the transfers, never in their transactions.
CREATE TABLE ledger_seals (
    n         INTEGER NOT NULL PRIMARY KEY,
    last_seq  INTEGER NOT NULL,
    available INTEGER NOT NULL, -- the sums of all entries up to last_seq by kind of account
    held      INTEGER NOT NULL,
    fees      INTEGER NOT NULL,
    issuance  INTEGER NOT NULL,
    clearing  INTEGER NOT NULL,
    at        INTEGER NOT NULL,
    hash      BLOB    NOT NULL,
    marks     BLOB    NOT NULL -- of each entry: its seq and its hash
) STRICT;
-- +goose StatementBegin
CREATE TRIGGER ledger_seals_keep BEFORE UPDATE ON ledger_seals BEGIN
    SELECT RAISE(ABORT, 'the ledger is append-only');
END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER ledger_seals_stay BEFORE DELETE ON ledger_seals BEGIN
    SELECT RAISE(ABORT, 'the ledger is append-only');
END;
-- +goose StatementEnd

-- +goose Down

DROP TABLE ledger_seals;
DROP TRIGGER ledger_accounts_stay;
DROP TRIGGER ledger_accounts_start;
DROP TRIGGER ledger_accounts_floor;
