package memory

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/nexus-protocol/nexus/domain/trust"
	"github.com/nexus-protocol/nexus/ports"
)

type trusts struct{ view }

func (v trusts) Profile(ctx context.Context, agentID string) (p trust.Profile, ok bool, err error) {
	unlock, err := v.read(ctx)
	if err != nil {
		return p, false, err
	}
	defer unlock()
	p, ok = v.s.profiles.get(agentID)
	return p, ok, nil
}

func (v trusts) Lock(ctx context.Context, agentID, requesterID string) (trust.Profile, trust.Dealings, bool, error) {
	p, ok, err := v.Profile(ctx, agentID)
	d := trust.Dealings{UserID: requesterID, Rater: trust.Rater{UserID: requesterID}}
	if pair, known := v.s.pairs.get(agentID + " " + requesterID); known {
		d.Pair, d.OwnerUserID = pair.Pair, pair.OwnerUserID
	}
	if r, known := v.s.raters.get(requesterID); known {
		d.Rater = r
	}
	if requesterID == "" {
		d = trust.Dealings{}
	}
	return p, d, ok, err
}

func (v trusts) Events(ctx context.Context, agentID string, p ports.Page) ([]trust.Event, int, error) {
	unlock, err := v.read(ctx)
	if err != nil {
		return nil, 0, err
	}
	defer unlock()
	all := v.newestFirst(agentID)
	return stretch(all, p), len(all), nil
}

func (v trusts) EventsAfter(ctx context.Context, agentID string, after trust.Place, limit int) ([]trust.Event, int, error) {
	unlock, err := v.read(ctx)
	if err != nil {
		return nil, 0, err
	}
	defer unlock()
	all := v.newestFirst(agentID)
	from := slices.IndexFunc(all, func(e trust.Event) bool { return e.Place().Compare(after) > 0 })
	if from < 0 {
		from = len(all)
	}
	return stretch(all, ports.Page{Limit: limit, Offset: from}), len(all), nil
}

func (v trusts) Rating(ctx context.Context, taskID string) (trust.Event, bool, error) {
	unlock, err := v.read(ctx)
	if err != nil {
		return trust.Event{}, false, err
	}
	defer unlock()
	e, ok := v.s.once.get(taskID + " " + string(trust.RatingReceived))
	return e, ok, nil
}

func (v trusts) newestFirst(agentID string) []trust.Event {
	all := slices.Clone(v.s.history.rows[agentID])
	slices.SortFunc(all, func(a, b trust.Event) int { return a.Place().Compare(b.Place()) })
	return all
}

func (v trusts) Save(ctx context.Context, p trust.Profile, e trust.Event, d trust.Dealings) error {
	if e.TaskID != "" {
		key := e.TaskID + " " + string(e.Type)
		if _, twice := v.s.once.get(key); twice {
			if e.Type == trust.RatingReceived {
				return trust.AlreadyRated(e.TaskID)
			}
			return fmt.Errorf("trust event %s of task %s: %w", e.Type, e.TaskID, ports.ErrDuplicate)
		}
		v.s.once.put(v.tx, key, e)
	}
	v.s.history.put(v.tx, p.AgentID, append(slices.Clip(v.s.history.rows[p.AgentID]), e))
	if d.UserID != "" {
		v.s.pairs.put(v.tx, p.AgentID+" "+d.UserID, dealt{p.AgentID, d})
	}
	if d.UserID != "" && e.Type == trust.RatingReceived {
		r, _ := v.s.raters.get(d.UserID)
		r.UserID = d.UserID
		r.Agreed += d.Rater.Agreed
		r.Disagreed += d.Rater.Disagreed
		v.s.raters.put(v.tx, d.UserID, r)
	}
	return v.Settle(ctx, p)
}

// dealt is a pair's dealings.
type dealt struct {
	agentID string
	trust.Dealings
}

func (v trusts) Settle(_ context.Context, p trust.Profile) error {
	v.s.profiles.put(v.tx, p.AgentID, p)
	if a, ok := v.s.agents.get(p.AgentID); ok {
		a.TrustScore, a.TrustBound, a.Latency = p.Score, p.Bound, p.Latency.Usual
		v.s.agents.put(v.tx, a.ID, a)
	}
	return nil
}

func (v trusts) Stand(_ context.Context, standing map[string]float64) error {
	for user, x := range standing {
		r, _ := v.s.raters.get(user)
		r.UserID, r.Standing, r.Seen = user, x, true
		v.s.raters.put(v.tx, user, r)
	}
	return nil
}

func (v trusts) Pace(ctx context.Context, skillID string) (trust.Pace, error) {
	unlock, err := v.read(ctx)
	if err != nil {
		return trust.Pace{}, err
	}
	defer unlock()
	p, _ := v.s.paces.get(skillID)
	return p, nil
}

func (v trusts) LockPace(ctx context.Context, skillID string) (trust.Pace, error) {
	return v.Pace(ctx, skillID)
}

func (v trusts) SavePace(_ context.Context, skillID string, p trust.Pace) error {
	v.s.paces.put(v.tx, skillID, p)
	return nil
}

func (v trusts) Damped(ctx context.Context, afterAgentID string, limit int) ([]trust.Damping, error) {
	unlock, err := v.read(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	var out []trust.Damping
	for id, p := range v.s.profiles.rows {
		if p.Damping < 1 && id > afterAgentID {
			out = append(out, trust.Damping{AgentID: id, Damping: p.Damping})
		}
	}
	slices.SortFunc(out, func(a, b trust.Damping) int { return cmp.Compare(a.AgentID, b.AgentID) })
	return stretch(out, ports.Page{Limit: limit}), nil
}

func (v trusts) ScoresAt(ctx context.Context, agentID string, moments []time.Time) ([]*float64, error) {
	unlock, err := v.read(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	out := make([]*float64, len(moments))
	for i, m := range moments {
		for _, e := range v.s.history.rows[agentID] {
			if e.CreatedAt.Before(m) {
				out[i] = &e.ScoreAfter
			}
		}
	}
	return out, nil
}

func (v trusts) GivenUp(ctx context.Context, ownerUserID string) (worst trust.Profile, ok bool, err error) {
	unlock, err := v.read(ctx)
	if err != nil {
		return worst, false, err
	}
	defer unlock()
	for _, a := range v.s.agents.rows {
		if a.OwnerUserID != ownerUserID || a.DeletedAt == nil {
			continue
		}
		if p, known := v.s.profiles.get(a.ID); known && (!ok || p.Score < worst.Score) {
			worst, ok = p, true
		}
	}
	return worst, ok, nil
}

func (v trusts) Payments(ctx context.Context, afterAgentID, afterUserID string, limit int) ([]trust.Payment, error) {
	unlock, err := v.read(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	var out []trust.Payment
	for _, d := range v.s.pairs.rows {
		if d.agentID > afterAgentID || d.agentID == afterAgentID && d.UserID > afterUserID {
			out = append(out, trust.Payment{
				FromUserID: d.UserID, AgentID: d.agentID, ToUserID: d.OwnerUserID, Amount: d.Pair.Paid, Full: d.Pair.Full, Counted: d.Pair.Counted,
			})
		}
	}
	slices.SortFunc(out, func(a, b trust.Payment) int {
		return cmp.Or(cmp.Compare(a.AgentID, b.AgentID), cmp.Compare(a.FromUserID, b.FromUserID))
	})
	return stretch(out, ports.Page{Limit: limit}), nil
}
