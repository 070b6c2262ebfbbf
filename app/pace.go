package app

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/nexus-protocol/nexus/domain/trust"
)

// How the market's pace of each skill is kept. A task's end only notes its time in this process, so that tasks of one skill
// do not wait for each other; what was noted is written down every few seconds. A process that is killed loses what it
// noted since, which moves no median.
const (
	paceEvery  = 10 * time.Second
	paceLast   = 2 * time.Second // for the last time, when the worker ends
	paceFresh  = time.Minute     // for so long a median is not read again
	paceBatch  = 100             // skills in a commit
	paceSkills = 10_000          // that are kept in memory at most
)

// timed is a completed task of a skill.
type timed struct {
	skillID string
	took    time.Duration
	weight  float64
	at      time.Time
}

// paces is what this process has noted of the market's pace since it was last written down, and what it knows of it.
type paces struct {
	mu    sync.Mutex
	noted map[string]trust.Pace
	known map[string]knownMedian
}

type knownMedian struct {
	median time.Duration
	until  time.Time
}

// note takes in tasks that have ended for good.
func (p *paces) note(all []timed) {
	if len(all) == 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, t := range all {
		n, there := p.noted[t.skillID]
		if !there && len(p.noted) >= paceSkills {
			continue
		}
		n.Add(t.took, t.weight, t.at)
		p.put(t.skillID, n)
	}
}

func (p *paces) put(skillID string, n trust.Pace) {
	if p.noted == nil {
		p.noted = map[string]trust.Pace{}
	}
	p.noted[skillID] = n
}

// take hands out what was noted.
func (p *paces) take() map[string]trust.Pace {
	p.mu.Lock()
	defer p.mu.Unlock()
	noted := p.noted
	p.noted = nil
	return noted
}

// giveBack notes again what could not be written down.
func (p *paces) giveBack(skillID string, n trust.Pace) {
	p.mu.Lock()
	defer p.mu.Unlock()
	n.Merge(p.noted[skillID])
	p.put(skillID, n)
}

func (p *paces) know(skillID string, pace trust.Pace, now time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.known) >= paceSkills {
		clear(p.known)
	}
	if p.known == nil {
		p.known = map[string]knownMedian{}
	}
	k := knownMedian{pace.Median(), now.Add(paceFresh)}
	p.known[skillID] = k
	return k.median
}

func (p *paces) get(skillID string, now time.Time) (time.Duration, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	k, ok := p.known[skillID]
	return k.median, ok && now.Before(k.until)
}

// median is how long the market takes for a skill, 0 if that is not known: as it was up to a minute ago. A read at most.
func (c *core) median(ctx context.Context, u *unit, skillID string) (time.Duration, error) {
	if skillID == "" {
		return 0, nil
	}
	if m, ok := c.paces.get(skillID, u.now); ok {
		return m, nil
	}
	p, err := u.Tx.Trust.Pace(ctx, skillID)
	if err != nil {
		return 0, fmt.Errorf("read the pace of a skill: %w", err)
	}
	return c.paces.know(skillID, p, u.now), nil
}

// savePaces writes down what was noted. One commit for every hundred skills.
func (c *core) savePaces(ctx context.Context) error {
	noted := c.paces.take()
	skills := slices.Sorted(maps.Keys(noted)) // all lock them in one order
	for len(skills) > 0 {
		some := skills[:min(paceBatch, len(skills))]
		var merged []trust.Pace
		err := c.commit(ctx, func(ctx context.Context, u *unit) error {
			merged = nil
			for _, id := range some {
				p, err := u.Tx.Trust.LockPace(ctx, id)
				if err != nil {
					return err
				}
				p.Merge(noted[id])
				if err := u.Tx.Trust.SavePace(ctx, id, p); err != nil {
					return err
				}
				merged = append(merged, p)
			}
			return nil
		})
		if err != nil {
			for _, id := range skills {
				c.paces.giveBack(id, noted[id])
			}
			return fmt.Errorf("save the paces of skills: %w", err)
		}
		for i, id := range some {
			c.paces.know(id, merged[i], c.now())
		}
		skills = skills[len(some):]
	}
	return nil
}
