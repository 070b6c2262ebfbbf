package bunstore

import (
	"context"
	"database/sql"
	"errors"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/nexus-protocol/nexus/adapters/internal/agentindex"
	"github.com/nexus-protocol/nexus/domain/credits"
	"github.com/nexus-protocol/nexus/domain/registry"
)

// Discovery in memory. The first search of a process has all agents read into an index, in the background; until it is there the
// database searches. Every search then first reads who has changed since, in whatever process, so that it sees
// all that was committed before it began; searches that begin while one reads share the next reading.

// DefaultMarket is up to how many agents a store keeps in memory if it is not told otherwise.
const DefaultMarket = 2_000_000

const (
	marketLot   = 500                    // agents that are read at a time
	movedLot    = 1_000                  // changes that are
	marketGrace = 100 * time.Millisecond // that a search waits for a market that may be a small one
	followGrace = 2 * time.Second        // that it waits for what has changed
	followEvery = 5 * time.Second        // if nobody searches
	marketRetry = time.Second            // after which the market is loaded again, if it could not be
	marketLimit = 30 * time.Second       // for one read
)

const marketColumns = `a.id, a.version, a.price, a.trust_score, a.trust_bound, a.latency_ms, a.featured, a.status, a.last_heartbeat, a.deleted_at`

const marketText = `, a.created_at, a.effective_category, a.tags, a.skills, a.search_name, a.search_skills, a.search_description`

var (
	qMark = hot(`SELECT {mark}, {seen}`)
	// One row at least, which has the mark.
	qMoved = hot(`SELECT {mark}, {seen}, m.moved, m.agent_id, m.renewed, ` + marketColumns + ` FROM (SELECT 1 AS one) AS o
		LEFT JOIN (SELECT moved, agent_id, CASE WHEN {unseen renewed} THEN 1 ELSE 0 END AS renewed FROM agent_moves
			WHERE (moved, agent_id) > (?, ?) AND {unseen moved} ORDER BY moved, agent_id LIMIT ?) AS m ON 1 = 1
		LEFT JOIN agents AS a ON a.id = m.agent_id ORDER BY m.moved, m.agent_id`)
	qMarket = hot(`SELECT ` + marketColumns + marketText + ` FROM agents AS a WHERE a.id > ? ORDER BY a.id LIMIT ?`)
)

// market is the agents of a store in memory.
type market struct {
	store *Store
	most  int // agents; of more there is no index
	ctx   context.Context
	stop  context.CancelFunc
	turns chan struct{} // of searches, which take all of a processor

	mu      sync.Mutex
	shelf   *shelf        // nil: there is none yet
	loading chan struct{} // closed when it ends; nil: nobody is at it
	began   time.Time     // the loading, or the last one
	never   bool          // there will be no index
	failed  error         // of the last loading
	next    *ride         // for who comes now
	riding  bool
	rode    time.Time // the last ride
}

// shelf is an index and up to where it knows of changes, which only rides move: what the database has seen at the last reading, and a number
// that no change is below which it had not.
type shelf struct {
	index *agentindex.Index
	mark  int64
	seen  string
}

// ride is a reading of what has changed, for all who wait for it.
type ride struct {
	done  chan struct{}
	shelf *shelf // that knows it
	err   error
}

func newMarket(s *Store, most int) *market {
	m := &market{store: s, most: most, turns: make(chan struct{}, 2*runtime.GOMAXPROCS(0))}
	m.ctx, m.stop = context.WithCancel(context.Background())
	return m
}

// standingRow is what marketColumns reads.
type standingRow struct {
	id, status                        sql.NullString
	version, price, latency, featured sql.NullInt64
	score, bound                      sql.NullFloat64
	heartbeat, deletedAt              sql.NullInt64
}

func (r *standingRow) dest() []any {
	return []any{&r.id, &r.version, &r.price, &r.score, &r.bound, &r.latency, &r.featured, &r.status, &r.heartbeat, &r.deletedAt}
}

func (r *standingRow) standing() agentindex.Standing {
	return agentindex.Standing{
		Version: r.version.Int64, Price: credits.Amount(r.price.Int64), Score: r.score.Float64, Bound: r.bound.Float64, Latency: millis(r.latency), Featured: r.featured.Int64 != 0,
		Status: registry.Status(r.status.String), Heartbeat: r.heartbeat.Int64,
	}
}

// marketRow is what marketColumns and marketText read.
type marketRow struct {
	standingRow
	createdAt              int64
	category, tags, skills string
	text                   registry.SearchText
}

func (r *marketRow) dest() []any {
	return append(r.standingRow.dest(), &r.createdAt, &r.category, &r.tags, &r.skills, &r.text.Name, &r.text.Skills, &r.text.Description)
}

func (r *marketRow) agent() (agentindex.Agent, error) {
	var a registry.Agent
	var skills []struct { // and no schemas
		ID   string   `json:"id"`
		Tags []string `json:"tags"`
	}
	err := errors.Join(unpack(r.tags, &a.Tags), unpack(r.skills, &skills))
	var ids []string
	for _, s := range skills {
		ids, a.Skills = append(ids, s.ID), append(a.Skills, registry.Skill{Tags: s.Tags})
	}
	return agentindex.Agent{
		ID: r.id.String, CreatedAt: r.createdAt, Standing: r.standing(), Text: r.text, Tags: a.AllTags(), Skills: ids, Category: r.category,
	}, err
}

// discover answers a query; ok is false where the database has to. One statement, and another where not all that were found are
// remembered.
func (m *market) discover(ctx context.Context, q registry.Query, now time.Time) (out []registry.Agent, total int, ok bool, err error) {
	if !m.ready(ctx) {
		return nil, 0, false, nil
	}
	s, err := m.catchUp(ctx)
	if err != nil {
		return nil, 0, false, ctx.Err() // the database may know better
	}
	select {
	case m.turns <- struct{}{}:
	case <-ctx.Done():
		return nil, 0, false, ctx.Err()
	}
	found, total := s.index.Search(q, now)
	<-m.turns
	m.store.counts.remembered.Add(1)
	out, err = m.read(ctx, found)
	return out, total, true, err
}

// read fetches what was found, but for what has been deleted meanwhile.
func (m *market) read(ctx context.Context, found []agentindex.Hit) ([]registry.Agent, error) {
	all := make(map[string]registry.Agent, len(found))
	var unknown []string
	for _, h := range found {
		if a, ok := m.store.agents.get(h.ID, h.Version); ok {
			all[h.ID] = a
		} else {
			unknown = append(unknown, h.ID)
		}
	}
	err := m.some(ctx, "SELECT "+agentColumns, unknown, func(scan func(...any) error) error {
		var r agentRow
		if err := scan(r.dest()...); err != nil || r.DeletedAt.Valid {
			return err
		}
		a, err := r.domain()
		if err == nil {
			m.store.agents.put(r.Version, a, r.size())
			all[a.ID] = a
		}
		return err
	})
	out := make([]registry.Agent, 0, len(found))
	for _, h := range found {
		if a, there := all[h.ID]; there { // with what it was found by, which changes without a new version
			a.TrustScore, a.TrustBound, a.Latency, a.Featured = h.Score, h.Bound, h.Latency, h.Featured
			out = append(out, a)
		}
	}
	return out, err
}

// some reads agents by their ids, in as many statements as there are lots; their plans are kept for a few sizes.
func (m *market) some(ctx context.Context, what string, ids []string, visit func(scan func(...any) error) error) error {
	for len(ids) > 0 {
		lot := 1
		for lot < len(ids) && lot < 512 {
			lot *= 8
		}
		n := min(lot, len(ids))
		var s sqlText
		s.add(what + " FROM agents AS a WHERE a.id IN (?" + strings.Repeat(", ?", lot-1) + ")")
		for i := range lot {
			s.args = append(s.args, ids[min(i, n-1)])
		}
		err := m.store.readers.do(ctx, func(ctx context.Context, c *session) error { return c.store.wrap(s.each(ctx, c, visit), "read agents") })
		if err != nil {
			return err
		}
		ids = ids[n:]
	}
	return nil
}

// ready says whether there is an index, and sees to it that there will be one.
func (m *market) ready(ctx context.Context) bool {
	m.mu.Lock()
	if m.shelf != nil || m.never || m.most == 0 {
		defer m.mu.Unlock()
		return m.shelf != nil
	}
	if m.loading == nil {
		if time.Since(m.began) < marketRetry {
			defer m.mu.Unlock()
			return false
		}
		m.load()
	}
	loading, left := m.loading, marketGrace-time.Since(m.began)
	m.mu.Unlock()
	if left <= 0 {
		return false
	}
	patience := time.NewTimer(left)
	defer patience.Stop()
	select {
	case <-loading:
	case <-patience.C:
	case <-ctx.Done():
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.shelf != nil
}

// LoadMarket has the agents that discovery keeps in memory loaded, if they are not, and waits for it. The first search sees to it
// otherwise.
func (s *Store) LoadMarket(ctx context.Context) error {
	m := s.market
	m.mu.Lock()
	if m.shelf == nil && m.loading == nil && !m.never && m.most > 0 {
		m.load()
	}
	loading, failed := m.loading, m.failed
	m.mu.Unlock()
	if loading == nil {
		return failed
	}
	select {
	case <-loading:
	case <-ctx.Done():
		return ctx.Err()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.failed
}

// load begins to read all agents; m is locked.
func (m *market) load() {
	loading := make(chan struct{})
	m.loading, m.began = loading, time.Now()
	go func() {
		s, err := m.all()
		m.mu.Lock()
		defer m.mu.Unlock()
		m.loading, m.failed = nil, err
		if m.giveUp(err); err == nil {
			if m.shelf == nil {
				go m.keepUp()
			}
			m.shelf = s
			m.store.counts.markets.Add(1)
		}
		close(loading)
	}()
}

// giveUp gives up for good if that is because the memory cannot hold what there is; m is locked.
func (m *market) giveUp(err error) {
	if errors.Is(err, errTooMany) || errors.Is(err, agentindex.ErrID) {
		m.never, m.shelf, m.failed = true, nil, err
	}
}

// keepUp rides now and then while nobody searches, so that the next search has little to read.
func (m *market) keepUp() {
	t := time.NewTicker(followEvery)
	defer t.Stop()
	for {
		select {
		case <-m.ctx.Done():
			return
		case <-t.C:
		}
		m.mu.Lock()
		gone, idle := m.shelf == nil, time.Since(m.rode) >= followEvery
		m.mu.Unlock()
		if gone {
			return
		}
		if idle {
			_, _ = m.catchUp(m.ctx) // the next search tries again
		}
	}
}

var (
	errTooMany = errors.New("store: more agents than are kept in memory")
	errBehind  = errors.New("store: not all changes of agents are read yet")
	errOther   = errors.New("store: the database knows less than it did")
)

// all reads all agents, a lot at a time, and then what has changed meanwhile.
func (m *market) all() (*shelf, error) {
	s := &shelf{index: agentindex.New()}
	if err := m.reading(func(ctx context.Context, c *session) error { return c.row(ctx, qMark, nil, &s.mark, &s.seen) }); err != nil {
		return nil, err
	}
	for last, n := "", marketLot; n == marketLot; {
		err := m.reading(func(ctx context.Context, c *session) error {
			from := last // if it is read again
			n = 0
			return c.each(ctx, qMarket, []any{from, marketLot}, func(scan func(...any) error) error {
				var r marketRow
				if err := scan(r.dest()...); err != nil {
					return err
				}
				n, last = n+1, r.id.String
				return s.put(&r)
			})
		})
		if err != nil {
			return nil, err
		}
		if s.index.Len() > m.most {
			return nil, errTooMany
		}
	}
	s.index.Loaded()
	for range 3 { // each takes less than what was before
		if err := m.follow(s); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func (s *shelf) put(r *marketRow) error {
	if r.deletedAt.Valid {
		s.index.Remove(r.id.String)
		return nil
	}
	a, err := r.agent()
	if err != nil {
		return err
	}
	return s.index.Put(a)
}

// reading reads for more than one caller, and so for none of their contexts.
func (m *market) reading(fn func(ctx context.Context, c *session) error) error {
	ctx, cancel := context.WithTimeout(m.ctx, marketLimit)
	defer cancel()
	return m.store.readers.do(ctx, fn)
}

// catchUp returns a shelf that knows what was committed before the call; errBehind if that takes long.
func (m *market) catchUp(ctx context.Context) (*shelf, error) {
	m.mu.Lock()
	r := m.next
	if r == nil {
		r = &ride{done: make(chan struct{})}
		m.next = r
	}
	if !m.riding {
		m.riding = true
		go m.ride()
	}
	m.mu.Unlock()
	patience := time.NewTimer(followGrace)
	defer patience.Stop()
	select {
	case <-r.done:
		return r.shelf, r.err
	case <-patience.C:
		return nil, errBehind
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// ride reads for those who wait, until nobody does.
func (m *market) ride() {
	for {
		m.mu.Lock()
		r := m.next
		m.next = nil
		if r == nil {
			m.riding = false
			m.mu.Unlock()
			return
		}
		r.shelf, m.rode = m.shelf, time.Now()
		m.mu.Unlock()
		if r.err = errBehind; r.shelf != nil {
			r.err = m.follow(r.shelf)
			m.tend(r.shelf, r.err)
		}
		close(r.done)
	}
}

// follow reads what has changed.
func (m *market) follow(s *shelf) error {
	for lots := 2; lots > 1; { // what comes in between lots may be behind where the next one begins
		var err error
		if lots, err = m.moved(s); err != nil {
			return err
		}
	}
	return nil
}

// moved reads what has not been seen, in as many lots as it takes.
func (m *market) moved(s *shelf) (lots int, err error) {
	type change struct {
		mark           int64
		seen           string
		moved, renewed sql.NullInt64
		id             sql.NullString
		standingRow
	}
	var first *change
	for from, last, more := s.mark, "", true; more; lots++ {
		var lot []change
		err := m.reading(func(ctx context.Context, c *session) error {
			lot = lot[:0]
			return c.each(ctx, qMoved, []any{s.seen, from, last, s.seen, movedLot}, func(scan func(...any) error) error {
				var r change
				err := scan(append([]any{&r.mark, &r.seen, &r.moved, &r.id, &r.renewed}, r.dest()...)...)
				lot = append(lot, r)
				return err
			})
		})
		if err != nil {
			return lots, err
		}
		if first == nil {
			if first = &lot[0]; first.mark < s.mark {
				return lots, errOther
			}
		}
		var renewed []string
		for _, r := range lot {
			switch {
			case !r.id.Valid: // nothing has changed
			case !r.standingRow.id.Valid || r.deletedAt.Valid:
				s.index.Remove(r.id.String)
			case !s.index.Set(r.id.String, r.standing()) || r.renewed.Int64 != 0:
				renewed = append(renewed, r.id.String)
			}
		}
		err = m.some(m.ctx, "SELECT "+marketColumns+marketText, renewed, func(scan func(...any) error) error {
			var r marketRow
			if err := scan(r.dest()...); err != nil {
				return err
			}
			return s.put(&r)
		})
		if err != nil {
			return lots, err
		}
		if more = len(lot) == movedLot; more {
			from, last = lot[len(lot)-1].moved.Int64, lot[len(lot)-1].id.String
		}
	}
	s.mark, s.seen = first.mark, first.seen // what has come after that is read the next time
	return lots, nil
}

// tend gives the index up when it cannot hold what there is, and makes it anew when most of it is of no use any more or it is that of another database.
func (m *market) tend(s *shelf, err error) {
	if s.index.Len() > m.most {
		err = errTooMany
	}
	worn := s.index.Worn()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.shelf != s {
		return
	}
	if m.giveUp(err); errors.Is(err, errOther) {
		m.shelf = nil
	}
	if (worn || m.shelf == nil) && !m.never && m.loading == nil && time.Since(m.began) > marketRetry {
		m.load()
	}
}
