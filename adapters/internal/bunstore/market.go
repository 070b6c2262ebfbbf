package bunstore

import (
	"context"
	"database/sql"
	"errors"
	"slices"
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
	marketLot   = 2_000                  // agents that are loaded at a time
	movedLot    = 500                    // changes that are read at a time
	marketGrace = 100 * time.Millisecond // that a search waits for a market that may be a small one
	marketRetry = time.Second            // after which it is loaded again, if it could not be
	marketLimit = 30 * time.Second       // for one read
	manyDead    = 10_000                 // places in the index that are worth making it anew
)

const marketColumns = `a.id, a.version, a.price, a.trust_score, a.trust_bound, a.latency_ms, a.featured, a.status, a.last_heartbeat, a.deleted_at`

const marketText = `, a.created_at, a.effective_category, a.tags, a.skills, a.search_name, a.search_skills, a.search_description`

var (
	qMark = hot(`SELECT {mark}`)
	// One row at least, which has the mark.
	qMoved = hot(`SELECT {mark}, m.moved, m.agent_id, ` + marketColumns + ` FROM (SELECT 1 AS one) AS o
		LEFT JOIN (SELECT moved, agent_id FROM agent_moves WHERE (moved, agent_id) > (?, ?) ORDER BY moved, agent_id LIMIT ?) AS m ON 1 = 1
		LEFT JOIN agents AS a ON a.id = m.agent_id ORDER BY m.moved, m.agent_id`)
	qMarket = hot(`SELECT ` + marketColumns + marketText + ` FROM agents AS a WHERE a.id > ? ORDER BY a.id LIMIT ?`)
)

// market is the agents of a store in memory.
type market struct {
	store *Store
	most  int // agents; of more there is no index

	mu      sync.Mutex
	shelf   *shelf        // nil: there is none yet
	loading chan struct{} // closed when it ends; nil: nobody is at it
	began   time.Time     // the loading, or the last one that failed
	never   bool          // there will be no index
	failed  error         // of the last loading
	next    *ride         // for who comes now
	riding  bool
}

// shelf is an index and up to where it knows of changes, which only rides move.
type shelf struct {
	index *agentindex.Index
	mark  int64
}

// ride is a reading of what has changed, for all who wait for it.
type ride struct {
	done chan struct{}
	err  error
}

// standingRow is what marketColumns reads.
type standingRow struct {
	id                              sql.NullString
	version, price, featured        sql.NullInt64
	latency                         sql.NullInt64
	score, bound                    sql.NullFloat64
	status                          sql.NullString
	heartbeat, deletedAt, createdAt sql.NullInt64
}

func (r *standingRow) dest() []any {
	return []any{&r.id, &r.version, &r.price, &r.score, &r.bound, &r.latency, &r.featured, &r.status, &r.heartbeat, &r.deletedAt}
}

func (r *standingRow) standing() agentindex.Standing {
	return agentindex.Standing{
		Version: r.version.Int64, Price: credits.Amount(r.price.Int64), Score: r.score.Float64, Bound: r.bound.Float64, Latency: r.latency.Int64, Featured: r.featured.Int64 != 0,
		Status: registry.Status(r.status.String), Heartbeat: r.heartbeat.Int64,
	}
}

// marketRow is what marketColumns and marketText read.
type marketRow struct {
	standingRow
	category, tags, skills string
	text                   registry.SearchText
}

func (r *marketRow) dest() []any {
	return append(r.standingRow.dest(), &r.createdAt, &r.category, &r.tags, &r.skills, &r.text.Name, &r.text.Skills, &r.text.Description)
}

func (r *marketRow) agent() (agentindex.Agent, error) {
	a := agentindex.Agent{ID: r.id.String, CreatedAt: r.createdAt.Int64, Standing: r.standing(), Text: r.text, Category: r.category}
	var skills []struct {
		ID   string   `json:"id"`
		Tags []string `json:"tags"`
	}
	if err := errors.Join(unpack(r.tags, &a.Tags), unpack(r.skills, &skills)); err != nil {
		return a, err
	}
	for _, s := range skills {
		a.Skills, a.Tags = append(a.Skills, s.ID), append(a.Tags, s.Tags...)
	}
	slices.Sort(a.Tags)
	a.Tags = slices.Compact(a.Tags)
	return a, nil
}

// discover answers a query; ok is false where the database has to. One statement, and another where not all that were found are
// remembered.
func (m *market) discover(ctx context.Context, q registry.Query, now time.Time) (out []registry.Agent, total int, ok bool, err error) {
	if byOneIndex(q) || !m.ready(ctx) {
		return nil, 0, false, nil
	}
	if err := m.catchUp(ctx); err != nil {
		return nil, 0, false, ctx.Err() // the database may know better
	}
	m.mu.Lock()
	s := m.shelf
	m.mu.Unlock()
	if s == nil {
		return nil, 0, false, nil
	}
	found, total := s.index.Search(q, now)
	out, err = m.read(ctx, found)
	return out, total, true, err
}

// byOneIndex tells the queries that a database answers along an index of prices or ages, and which would have the memory look at everything.
func byOneIndex(q registry.Query) bool {
	return q.MaxLatency == nil && (q.Sort == registry.SortPrice || q.Sort == registry.SortNewest) && len(q.Words()) == 0 && len(q.SkillTags) == 0 && q.SkillID == "" && q.Category == ""
}

// read fetches what was found, but for what has been deleted meanwhile.
func (m *market) read(ctx context.Context, found []agentindex.Hit) ([]registry.Agent, error) {
	all := make(map[string]registry.Agent, len(found))
	var unknown []string
	for _, h := range found {
		a, ok := m.store.agents.get(h.ID, h.Version)
		if !ok {
			unknown = append(unknown, h.ID)
			continue
		}
		a.TrustScore, a.TrustBound, a.Latency, a.Featured = h.Score, h.Bound, time.Duration(h.Latency)*time.Millisecond, h.Featured
		all[h.ID] = a
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
		if a, there := all[h.ID]; there {
			out = append(out, a)
		}
	}
	return out, err
}

// some reads agents by their ids, in as many statements as there are lots; their plans are kept for a few sizes.
func (m *market) some(ctx context.Context, what string, ids []string, visit func(scan func(...any) error) error) error {
	for len(ids) > 0 {
		lot := 1
		for lot < len(ids) && lot < 64 {
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
		switch {
		case err == nil:
			m.shelf = s
		case errors.Is(err, errTooMany), errors.Is(err, agentindex.ErrID):
			m.never, m.shelf = true, nil
		}
		m.loading, m.failed = nil, err
		close(loading)
	}()
}

var errTooMany = errors.New("store: more agents than are kept in memory")

// all reads all agents, a lot at a time.
func (m *market) all() (*shelf, error) {
	s := &shelf{index: agentindex.New()}
	if err := m.reading(func(ctx context.Context, c *session) error { return c.row(ctx, qMark, nil, &s.mark) }); err != nil {
		return nil, err
	}
	for last, more := "", true; more; {
		var lot []marketRow
		err := m.reading(func(ctx context.Context, c *session) error {
			lot = lot[:0]
			return c.each(ctx, qMarket, []any{last, marketLot}, func(scan func(...any) error) error {
				var r marketRow
				err := scan(r.dest()...)
				lot = append(lot, r)
				return err
			})
		})
		if err != nil {
			return nil, err
		}
		if err := s.put(lot); err != nil {
			return nil, err
		}
		if more = len(lot) == marketLot; more {
			last = lot[len(lot)-1].id.String
		}
		if s.index.Len() > m.most {
			return nil, errTooMany
		}
	}
	s.index.Loaded()
	return s, nil
}

func (s *shelf) put(rows []marketRow) error {
	for _, r := range rows {
		if r.deletedAt.Valid {
			s.index.Remove(r.id.String)
			continue
		}
		a, err := r.agent()
		if err == nil {
			err = s.index.Put(a)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// reading reads for more than one caller, and so for none of their contexts.
func (m *market) reading(fn func(ctx context.Context, c *session) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), marketLimit)
	defer cancel()
	return m.store.readers.do(ctx, fn)
}

// catchUp has the index know what was committed before the call.
func (m *market) catchUp(ctx context.Context) error {
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
	select {
	case <-r.done:
		return r.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// ride reads for those who wait, until nobody does.
func (m *market) ride() {
	for {
		m.mu.Lock()
		r, s := m.next, m.shelf
		m.next = nil
		if r == nil {
			m.riding = false
			m.mu.Unlock()
			return
		}
		m.mu.Unlock()
		if s != nil {
			r.err = m.follow(s)
		}
		close(r.done)
	}
}

// follow reads what has changed.
func (m *market) follow(s *shelf) error {
	type change struct {
		mark, moved sql.NullInt64
		id          sql.NullString
		standingRow
	}
	mark, from, last := int64(-1), s.mark, ""
	var renewed []string
	for more := true; more; {
		var lot []change
		err := m.reading(func(ctx context.Context, c *session) error {
			lot = lot[:0]
			return c.each(ctx, qMoved, []any{from, last, movedLot}, func(scan func(...any) error) error {
				var r change
				err := scan(append([]any{&r.mark, &r.moved, &r.id}, r.dest()...)...)
				lot = append(lot, r)
				return err
			})
		})
		if err != nil {
			return err
		}
		for _, r := range lot {
			switch {
			case !r.id.Valid: // nothing has changed
			case !r.standingRow.id.Valid || r.deletedAt.Valid:
				s.index.Remove(r.id.String)
			case !s.index.Set(r.id.String, r.standing()):
				renewed = append(renewed, r.id.String)
			}
		}
		if mark < 0 { // what comes after that is read the next time
			mark = lot[0].mark.Int64
		}
		if more = len(lot) == movedLot; more {
			from, last = lot[len(lot)-1].moved.Int64, lot[len(lot)-1].id.String
		}
	}
	var rows []marketRow
	ctx, cancel := context.WithTimeout(context.Background(), marketLimit)
	defer cancel()
	err := m.some(ctx, "SELECT "+marketColumns+marketText, renewed, func(scan func(...any) error) error {
		var r marketRow
		err := scan(r.dest()...)
		rows = append(rows, r)
		return err
	})
	if err == nil {
		err = s.put(rows)
	}
	if err == nil {
		s.mark = mark
	}
	m.tend(s, err)
	return err
}

// tend gives the index up when it cannot hold what there is, and makes it anew when most of it is of no use any more.
func (m *market) tend(s *shelf, err error) {
	living, dead := s.index.Len(), s.index.Dead()
	if living > m.most {
		err = errTooMany
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.shelf != s:
	case errors.Is(err, errTooMany), errors.Is(err, agentindex.ErrID):
		m.never, m.shelf, m.failed = true, nil, err
	case dead > max(manyDead, living) && m.loading == nil:
		m.load()
	}
}
