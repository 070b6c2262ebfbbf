package bench

import (
	"github.com/nexus-protocol/nexus/adapters/postgres"
	"os"
	"testing"
	"time"

	"github.com/nexus-protocol/nexus/adapters/postgres/postgrestest"
)

func BenchmarkProf(b *testing.B) {
	s := shapes[0]
	var c contender
	var ps *postgres.Store
	switch os.Getenv("E") {
	case "sqlite":
		c = nexus(b, "nexus-sqlite", s, openSQLite(b))
	case "pg":
		st := openPostgres(b)
		ps = st.(*postgres.Store)
		c = nexus(b, "nexus-postgres", s, st)
	case "dbospg":
		c = dbosOn(b, "dbos-postgres", s, pgurl(b))
	case "dbossqlite":
		c = dbosOn(b, "d", s, "sqlite:"+b.TempDir()+"/x.db")
	}
	for b.Loop() {
		var s0 postgres.Stats
		if ps != nil { s0 = ps.Stats() }
		o0, c0 := cpu()
		rate, p := measure(b, c, clients, 5*time.Second)
		o1, c1 := cpu()
		b.ReportMetric((o1-o0)/rate/5*1000, "go-ms/run")
		b.ReportMetric((c1-c0)/rate/5*1000, "pg-ms/run")
		if ps != nil { s1 := ps.Stats(); n := rate*5; b.ReportMetric(float64(s1.Commits-s0.Commits)/n, "commits/run"); b.ReportMetric(float64(s1.RoundTrips-s0.RoundTrips)/n, "rts/run") }
		_, p50 := measure(b, c, 1, time.Second)
		b.ReportMetric(rate, "runs/s")
		b.ReportMetric(float64(p.Microseconds())/1000, "p50-32-ms")
		b.ReportMetric(float64(p50.Microseconds())/1000, "p50-ms")
	}
}

func pgurl(b *testing.B) string { return postgrestest.URL(b) }

