package httpapi

import (
	"context"
	"encoding/csv"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/nexus-protocol/nexus/domain/ledger"
)

// batchTimeout is how long a client may take for some rows of a table.
const batchTimeout = 30 * time.Second

// wantsCSV tells whether a table is asked for, in the query or else by what the client accepts: a table that it names and
// likes no less than JSON.
func wantsCSV(r *http.Request, format string) bool {
	if format != "" {
		return format == "csv"
	}
	table, other := 0.0, 0.0
	for part := range strings.SplitSeq(strings.Join(r.Header.Values("Accept"), ","), ",") {
		mediaType, params, err := mime.ParseMediaType(strings.TrimSpace(part))
		if err != nil {
			continue
		}
		q := 1.0
		if text, ok := params["q"]; ok {
			if q, err = strconv.ParseFloat(text, 64); err != nil {
				continue
			}
		}
		switch mediaType {
		case "text/csv":
			table = max(table, q)
		case typeJSON:
			other = max(other, q)
		}
	}
	return table > 0 && table >= other
}

// streamTransactions answers with a table of transactions: all of them, or the stretch that the query asks for.
func (s *server) streamTransactions(ctx context.Context, x *exchange, in *transactionsInput) error {
	conn := http.NewResponseController(x.ResponseWriter)
	out := csv.NewWriter(x)
	out.UseCRLF = true
	visit := func(entries []ledger.Entry) error {
		if !x.streamed {
			x.streamed = true
			h := x.Header()
			h.Set("Content-Type", "text/csv; charset=utf-8; header=present")
			h.Set("Content-Disposition", `attachment; filename="transactions.csv"`)
			x.WriteHeader(http.StatusOK)
			_ = out.Write([]string{"id", "userId", "type", "amount", "balanceAfter", "referenceId", "description", "createdAt"}) // Flush tells
		}
		_ = conn.SetWriteDeadline(time.Now().Add(batchTimeout)) // some writers have none
		for _, e := range entries {
			_ = out.Write([]string{
				e.ID, e.UserID, string(e.Type), e.Amount.String(), e.BalanceAfter.String(), harmless(e.Reference), harmless(e.Description),
				e.At.UTC().Format(time.RFC3339Nano),
			})
		}
		out.Flush()
		if err := out.Error(); err != nil {
			s.lost(ctx, x, err)
			panic(http.ErrAbortHandler)
		}
		_ = conn.Flush() // some writers cannot
		return nil
	}
	if q := x.request.URL.Query(); q.Has("limit") || q.Has("offset") {
		l, err := s.engine.Billing.Transactions(ctx, x.caller, in.Type, page(in.Limit, in.Offset))
		if err != nil {
			return err
		}
		return visit(l.Items)
	}
	return s.engine.Billing.Statement(ctx, x.caller, in.Type, visit)
}

// harmless makes sure that no spreadsheet takes a text for a formula.
func harmless(text string) string {
	begin := strings.TrimLeft(text, " \u00a0\u3000\ufeff")
	if begin != "" && strings.ContainsRune("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20", []rune(begin)[0]) {
		return "'" + text
	}
	return text
}
