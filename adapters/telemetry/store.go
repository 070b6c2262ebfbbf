package telemetry

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/nexus-protocol/nexus/domain/credits"
	"github.com/nexus-protocol/nexus/domain/task"
	"github.com/nexus-protocol/nexus/ports"
)

// readTimeout bounds how long the store may take to answer for each part.
const readTimeout = 2 * time.Second

// What is read from the store.
const (
	partTasks  = "tasks"
	partJobs   = "jobs"
	partLedger = "ledger"
)

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, labels, nil)
}

var (
	descTasks     = desc("nexus_tasks_open", "Tasks that have not ended, by state.", "state")
	descJobs      = desc("nexus_jobs", "Jobs by priority, and by state: waiting (due, and nobody's), running, later (not due yet).", "priority", "state")
	descOldest    = desc("nexus_job_oldest_age_seconds", "For how long the longest waiting job has been due, by priority; 0 if none waits.", "priority")
	descLedger    = desc("nexus_ledger_credits", "Sum of all postings by kind of account.", "account")
	descImbalance = desc("nexus_ledger_imbalance_credits", "Sum of all postings there are. It must be 0.")
	descErrors    = desc("nexus_scrape_errors_total", "How often something could not be read from the store; its metrics are left out then.", "part")
	descPool      = desc("nexus_db_connections", "Connections to the database, by what they are for and whether they are in use.", "pool", "state")
	descPoolMax   = desc("nexus_db_connections_max", "How many connections there may be.", "pool")
	descWaits     = desc("nexus_db_waits_total", "How often someone had to wait for a connection.", "pool")
	descWaited    = desc("nexus_db_wait_seconds_total", "How long they waited, taken together.", "pool")
)

var priorities = map[ports.Priority]string{
	ports.PriorityInteractive: "interactive", ports.PriorityWorkflow: "workflow", ports.PriorityHousekeeping: "housekeeping",
}

// storeCollector collects what must be read from the store. It reads seldom, however often it is asked, and one at a time.
type storeCollector struct {
	stats   ports.StatsReader
	pools   func() []ports.Pool
	now     func() time.Time
	keepFor time.Duration
	log     *slog.Logger

	mu     sync.Mutex
	read   time.Time // by the wall clock
	shown  []prometheus.Metric
	errors map[string]float64
}

func newStoreCollector(opt MetricsOptions) *storeCollector {
	return &storeCollector{
		stats: opt.Stats, pools: opt.Pools, now: opt.Now, keepFor: opt.KeepFor, log: opt.Logger,
		errors: map[string]float64{partTasks: 0, partJobs: 0, partLedger: 0},
	}
}

// Describe implements prometheus.Collector.
func (c *storeCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		descTasks, descJobs, descOldest, descLedger, descImbalance, descErrors, descPool, descPoolMax, descWaits, descWaited,
	} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *storeCollector) Collect(ch chan<- prometheus.Metric) {
	if c.pools != nil {
		for _, p := range c.pools() {
			ch <- gauge(descPool, float64(p.InUse), p.Name, "in_use")
			ch <- gauge(descPool, float64(max(p.Open-p.InUse, 0)), p.Name, "idle")
			ch <- gauge(descPoolMax, float64(p.Max), p.Name)
			ch <- counter(descWaits, float64(p.Waits), p.Name)
			ch <- counter(descWaited, p.Waited.Seconds(), p.Name)
		}
	}
	if c.stats == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.read) >= c.keepFor {
		c.refresh()
		c.read = time.Now()
	}
	for _, m := range c.shown {
		ch <- m
	}
	for part, n := range c.errors {
		ch <- counter(descErrors, n, part)
	}
}

// refresh reads everything. What cannot be read is left out.
func (c *storeCollector) refresh() {
	c.shown = nil
	for _, part := range []struct {
		name string
		read func(context.Context) ([]prometheus.Metric, error)
	}{{partTasks, c.tasks}, {partJobs, c.jobs}, {partLedger, c.ledger}} {
		ctx, cancel := context.WithTimeout(context.Background(), readTimeout)
		metrics, err := part.read(ctx)
		cancel()
		if err != nil {
			c.errors[part.name]++
			c.log.Debug("metrics could not be read from the store", "part", part.name, "error", err)
			continue
		}
		c.shown = append(c.shown, metrics...)
	}
}

func (c *storeCollector) tasks(ctx context.Context) (out []prometheus.Metric, err error) {
	open, err := c.stats.OpenTasks(ctx)
	if err != nil {
		return nil, err
	}
	for _, s := range task.Statuses() {
		if !s.Ended() {
			out = append(out, gauge(descTasks, float64(open[s]), string(s)))
		}
	}
	return out, nil
}

func (c *storeCollector) jobs(ctx context.Context) (out []prometheus.Metric, err error) {
	now := c.now()
	stats, err := c.stats.Jobs(ctx, now)
	if err != nil {
		return nil, err
	}
	for p, name := range priorities {
		s := stats[p]
		age := 0.0
		if !s.Oldest.IsZero() {
			age = max(now.Sub(s.Oldest).Seconds(), 0)
		}
		out = append(out, gauge(descJobs, float64(s.Waiting), name, "waiting"), gauge(descJobs, float64(s.Running), name, "running"),
			gauge(descJobs, float64(s.Later), name, "later"), gauge(descOldest, age, name))
	}
	return out, nil
}

func (c *storeCollector) ledger(ctx context.Context) ([]prometheus.Metric, error) {
	s, err := c.stats.Ledger(ctx)
	if err != nil {
		return nil, err
	}
	amount := func(a credits.Amount) float64 { return float64(a) / float64(credits.Credit) }
	return []prometheus.Metric{
		gauge(descLedger, amount(s.Available), "available"), gauge(descLedger, amount(s.Held), "held"), gauge(descLedger, amount(s.Fees), "fees"),
		gauge(descLedger, amount(s.Issuance), "issuance"), gauge(descLedger, amount(s.Clearing), "clearing"), gauge(descImbalance, amount(s.Imbalance)),
	}, nil
}

func gauge(d *prometheus.Desc, v float64, labels ...string) prometheus.Metric {
	return prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
}

func counter(d *prometheus.Desc, v float64, labels ...string) prometheus.Metric {
	return prometheus.MustNewConstMetric(d, prometheus.CounterValue, v, labels...)
}
