package postgres

import (
	"context"
	"database/sql"
	"encoding/binary"
	"fmt"
	"strconv"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/nexus-protocol/nexus/adapters/internal/bunstore"
)

// pipeline sends statements in one round trip, and in one more for each that this connection has not prepared yet.
func pipeline(conn *sql.Conn, calls []bunstore.Call) (err error) {
	ctx := context.Background() // a transaction's statements are never interrupted
	failed := conn.Raw(func(driverConn any) error {
		c := driverConn.(*stdlib.Conn).Conn()
		var batch pgx.Batch
		for _, k := range calls {
			text := k.Text
			if k.ID > 0 {
				text = "nexus_" + strconv.Itoa(k.ID)
				if _, err = c.Prepare(ctx, text, k.Text); err != nil { // at no cost when it is
					return nil
				}
			}
			batch.Queue(text, k.Args...)
		}
		err = read(c.SendBatch(ctx, &batch), calls)
		return nil
	})
	if err == nil {
		err = failed
	}
	return err
}

func read(results pgx.BatchResults, calls []bunstore.Call) (err error) {
	defer func() {
		if closed := results.Close(); err == nil && closed != nil {
			err = fmt.Errorf("end of the pipeline: %w", closed)
		}
	}()
	for i := range calls {
		k := &calls[i]
		if k.Visit == nil && k.Each == nil {
			tag, err := results.Exec()
			if err != nil {
				return err
			}
			k.Rows = tag.RowsAffected()
			continue
		}
		rows, err := results.Query()
		if err != nil {
			return err
		}
		for rows.Next() {
			if err := visit(k, rows); err != nil {
				rows.Close()
				return err
			}
		}
		rows.Close()
		if err := rows.Err(); err != nil {
			return err
		}
	}
	return nil
}

// visit hands the row on.
func visit(k *bunstore.Call, rows pgx.Rows) error {
	if k.Each == nil {
		return k.Visit(rows.Scan)
	}
	n, first := int64(0), rows.RawValues()[0]
	switch rows.FieldDescriptions()[0].Format {
	case pgx.BinaryFormatCode:
		n = int64(binary.BigEndian.Uint64(first))
	default:
		var err error
		if n, err = strconv.ParseInt(string(first), 10, 64); err != nil {
			return err
		}
	}
	return k.Each(int(n), func(dest ...any) error { return rows.Scan(append([]any{nil}, dest...)...) })
}
