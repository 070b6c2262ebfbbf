-- +goose Up

-- What users spent and earned on each UTC day (since 1970), up to the entry of the ledger that their mark names. It follows
-- from the entries; rows may be deleted, if all of a user's are.
CREATE TABLE usage_days (
    user_id TEXT NOT NULL,
    day INTEGER NOT NULL,
    spent INTEGER NOT NULL,
    earned INTEGER NOT NULL,
    PRIMARY KEY (user_id, day)
) STRICT, WITHOUT ROWID;
CREATE TABLE usage_marks (
    user_id TEXT NOT NULL PRIMARY KEY, -- '' is how far was looked for users to sum up
    seq INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- +goose Down

DROP TABLE usage_marks;
DROP TABLE usage_days;
