package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/nexus-protocol/nexus/adapters/memory"
	"github.com/nexus-protocol/nexus/domain/ledger"
	"github.com/nexus-protocol/nexus/ports"
)

// byHand is a ledger as one would write it for nothing but speed: no types, totals or history of its own, two entries, and
// one statement, which is its own transaction.
const byHand = `
CREATE TABLE hand_accounts (id TEXT COLLATE "C" PRIMARY KEY, balance BIGINT NOT NULL CHECK (balance >= 0));
CREATE TABLE hand_transfers (id TEXT COLLATE "C" PRIMARY KEY, key TEXT COLLATE "C" NOT NULL UNIQUE, at BIGINT NOT NULL);
CREATE TABLE hand_entries (seq BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, transfer_id TEXT COLLATE "C" NOT NULL, account TEXT COLLATE "C" NOT NULL,
	amount BIGINT NOT NULL, balance_after BIGINT NOT NULL, at BIGINT NOT NULL);
CREATE INDEX hand_entries_by_account ON hand_entries (account, seq);`

const transferByHand = `
WITH locked AS (SELECT id FROM hand_accounts WHERE id IN ($3, $4) ORDER BY id FOR UPDATE),
changed AS (UPDATE hand_accounts a SET balance = a.balance + CASE WHEN a.id = $3 THEN -$5::bigint ELSE $5::bigint END
	FROM locked WHERE a.id = locked.id RETURNING a.id, a.balance),
booked AS (INSERT INTO hand_transfers (id, key, at) VALUES ($1, $2, $6))
INSERT INTO hand_entries (transfer_id, account, amount, balance_after, at)
	SELECT $1, id, CASE WHEN id = $3 THEN -$5::bigint ELSE $5::bigint END, balance, $6 FROM changed`

// BenchmarkLedger books transfers of one credit between two of many users, and from many users to one, by one client and by
// 32; in turns, so that both sides have the same machine, with the store and with a statement that is written by hand, on a
// connection for each client.
func BenchmarkLedger(b *testing.B) {
	const users, rounds, each = 1_000, 8, 250 * time.Millisecond
	s, url := fresh(b)
	ctx := context.Background()
	setup, err := pgx.Connect(ctx, url)
	require.NoError(b, err)
	defer func() { require.NoError(b, setup.Close(ctx)) }()
	_, err = setup.Exec(ctx, byHand)
	require.NoError(b, err)
	_, err = setup.Exec(ctx, "INSERT INTO hand_accounts SELECT 'u' || i, 1000000000000 FROM generate_series(0, $1::bigint) AS i", users)
	require.NoError(b, err)
	id := func(i int) string { return fmt.Sprint("u", i) }
	for i := range users + 1 {
		t, err := ledger.Issue{ID: id(i), UserID: id(i), Amount: 1_000_000_000_000}.Credit(now())
		require.NoError(b, err)
		require.NoError(b, s.Update(ctx, func(ctx context.Context, tx ports.Tx) error { return tx.Ledger.Post(ctx, t.Stamp(memory.NewID)) }))
	}
	const most = 32
	conns := make([]*pgx.Conn, most)
	for i := range conns {
		conns[i], err = pgx.Connect(ctx, url)
		require.NoError(b, err)
		defer func() { require.NoError(b, conns[i].Close(ctx)) }()
	}
	hand := func(client int, from, to string) error {
		for {
			_, err := conns[client].Exec(ctx, transferByHand, memory.NewID(), memory.NewID(), from, to, 100, now().UnixMicro())
			var failed *pgconn.PgError
			if errors.As(err, &failed) && failed.Code == "40P01" {
				continue
			}
			return err
		}
	}
	ours := func(_ int, from, to string) error {
		t := ledger.Transfer{Key: memory.NewID(), Reference: "bench", Description: "A transfer", At: now(), Postings: []ledger.Posting{
			{Account: ledger.Available(from), Type: ledger.TypeTaskDebit, Amount: -100},
			{Account: ledger.Available(to), Type: ledger.TypeTaskCredit, Amount: 100},
		}}.Stamp(memory.NewID)
		return s.Update(ctx, func(ctx context.Context, tx ports.Tx) error { return tx.Ledger.Post(ctx, t) })
	}
	uniform := map[int]float64{}
	for _, hot := range []bool{false, true} {
		for _, clients := range []int{1, most} {
			name := fmt.Sprintf("accounts=%d/clients=%d", users, clients)
			if hot {
				name = fmt.Sprintf("accounts=hot/clients=%d", clients)
			}
			b.Run(name, func(b *testing.B) {
				for b.Loop() {
					var did [2]int64
					var used [2]time.Duration
					for range rounds {
						for side, transfer := range []func(int, string, string) error{hand, ours} {
							before := processorTime(b, setup)
							did[side] += burst(b, clients, each, func(client int) error {
								from := rand.IntN(users)
								to := (from + 1 + rand.IntN(users-1)) % users
								if hot {
									to = users
								}
								return transfer(client, id(from), id(to))
							})
							used[side] += processorTime(b, setup) - before
						}
					}
					took := (rounds * each).Seconds()
					rate := float64(did[1]) / took
					b.ReportMetric(float64(did[0])/took, "hand/s")
					b.ReportMetric(rate, "ours/s")
					b.ReportMetric(100*float64(did[1])/float64(did[0]), "%-of-hand")
					b.ReportMetric(float64(used[0].Microseconds())/float64(did[0]), "hand-cpu-µs")
					b.ReportMetric(float64(used[1].Microseconds())/float64(did[1]), "ours-cpu-µs")
					if !hot {
						uniform[clients] = rate
					} else if uniform[clients] > 0 {
						b.ReportMetric(100*rate/uniform[clients], "%-of-uniform")
					}
				}
			})
		}
	}
}

// burst has clients do something again and again for a while, and returns how often they did.
func burst(b *testing.B, clients int, d time.Duration, do func(client int) error) int64 {
	var n atomic.Int64
	var all sync.WaitGroup
	end := time.Now().Add(d)
	for c := range clients {
		all.Go(func() {
			for time.Now().Before(end) {
				if err := do(c); err != nil {
					b.Error(err)
					return
				}
				n.Add(1)
			}
		})
	}
	all.Wait()
	return n.Load()
}

// processorTime is what this process and the database server's have used up; 0 where there is no /proc to tell. Where others
// are at work too, a rate says how much of the machine one got, and this what one did with it.
func processorTime(b *testing.B, conn *pgx.Conn) (sum time.Duration) {
	var backend int
	require.NoError(b, conn.QueryRow(context.Background(), "SELECT pg_backend_pid()").Scan(&backend))
	_, server := processStat(strconv.Itoa(backend))
	sum, _ = processStat("self")
	all, _ := os.ReadDir("/proc")
	for _, p := range all {
		if used, parent := processStat(p.Name()); parent == server {
			sum += used
		}
	}
	return sum
}

func processStat(pid string) (used time.Duration, parent string) {
	raw, err := os.ReadFile("/proc/" + pid + "/stat")
	if err != nil {
		return 0, "none"
	}
	_, rest, _ := strings.Cut(string(raw), ") ")
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return 0, "none"
	}
	for _, ticks := range fields[11:13] { // of 10 ms each
		n, _ := strconv.Atoi(ticks)
		used += time.Duration(n) * 10 * time.Millisecond
	}
	return used, fields[1]
}
