-- +goose Up

-- A balance is below zero by what was spent before its purchase was reversed, and for no other reason.
ALTER TABLE ledger_accounts DROP CONSTRAINT ledger_accounts_available_check;
-- +goose StatementBegin
CREATE FUNCTION ledger_is_not_covered() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE check_violation USING MESSAGE = 'only a reversal takes more than there is';
END $$;
-- +goose StatementEnd
CREATE TRIGGER ledger_accounts_floor BEFORE UPDATE ON ledger_accounts FOR EACH ROW
    WHEN (NEW.available < 0 AND NEW.available < OLD.available AND NEW.reversed - OLD.reversed < OLD.available - NEW.available)
    EXECUTE FUNCTION ledger_is_not_covered();
CREATE TRIGGER ledger_accounts_start BEFORE INSERT ON ledger_accounts FOR EACH ROW
    WHEN (NEW.available < 0) EXECUTE FUNCTION ledger_is_not_covered();
CREATE TRIGGER ledger_accounts_keep BEFORE DELETE ON ledger_accounts FOR EACH ROW EXECUTE FUNCTION ledger_is_append_only();
CREATE TRIGGER ledger_accounts_stay BEFORE TRUNCATE ON ledger_accounts FOR EACH STATEMENT EXECUTE FUNCTION ledger_is_append_only();

-- All entries of a transfer come in one statement.
-- +goose StatementBegin
CREATE FUNCTION ledger_balances() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT 1 FROM booked GROUP BY transfer_id HAVING sum(amount) <> 0) THEN
        RAISE check_violation USING MESSAGE = 'a transfer does not balance';
    END IF;
    RETURN NULL;
END $$;
-- +goose StatementEnd
CREATE TRIGGER ledger_entries_balance AFTER INSERT ON ledger_entries REFERENCING NEW TABLE AS booked
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_balances();

-- The chain over the entries. Written behind the transfers, never in their transactions.
CREATE TABLE ledger_seals (
    n BIGINT NOT NULL PRIMARY KEY,
    last_seq BIGINT NOT NULL,
    available BIGINT NOT NULL, -- the sums of all entries up to last_seq by kind of account
    held BIGINT NOT NULL,
    fees BIGINT NOT NULL,
    issuance BIGINT NOT NULL,
    clearing BIGINT NOT NULL,
    at BIGINT NOT NULL,
    hash BYTEA NOT NULL,
    marks BYTEA NOT NULL -- of each entry: its seq and its hash
);
CREATE TRIGGER ledger_seals_keep BEFORE UPDATE OR DELETE ON ledger_seals FOR EACH ROW EXECUTE FUNCTION ledger_is_append_only();
CREATE TRIGGER ledger_seals_stay BEFORE TRUNCATE ON ledger_seals FOR EACH STATEMENT EXECUTE FUNCTION ledger_is_append_only();

-- Not even in a session that switches triggers off, as replicas and restores do.
ALTER TABLE ledger_transfers ENABLE ALWAYS TRIGGER ledger_transfers_keep;
ALTER TABLE ledger_transfers ENABLE ALWAYS TRIGGER ledger_transfers_stay;
ALTER TABLE ledger_entries ENABLE ALWAYS TRIGGER ledger_entries_keep;
ALTER TABLE ledger_entries ENABLE ALWAYS TRIGGER ledger_entries_stay;
ALTER TABLE ledger_accounts ENABLE ALWAYS TRIGGER ledger_accounts_floor;
ALTER TABLE ledger_accounts ENABLE ALWAYS TRIGGER ledger_accounts_keep;
ALTER TABLE ledger_accounts ENABLE ALWAYS TRIGGER ledger_accounts_stay;
ALTER TABLE ledger_seals ENABLE ALWAYS TRIGGER ledger_seals_keep;
ALTER TABLE ledger_seals ENABLE ALWAYS TRIGGER ledger_seals_stay;

-- +goose Down

DROP TABLE ledger_seals;
DROP TRIGGER ledger_entries_balance ON ledger_entries;
DROP FUNCTION ledger_balances();
DROP TRIGGER ledger_accounts_stay ON ledger_accounts;
DROP TRIGGER ledger_accounts_keep ON ledger_accounts;
DROP TRIGGER ledger_accounts_start ON ledger_accounts;
DROP TRIGGER ledger_accounts_floor ON ledger_accounts;
DROP FUNCTION ledger_is_not_covered();
-- A debt cannot be kept here; existing ones stand.
ALTER TABLE ledger_accounts ADD CONSTRAINT ledger_accounts_available_check CHECK (available >= 0) NOT VALID;
