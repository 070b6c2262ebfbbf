package httpapi

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/nexus-protocol/nexus/app"
	"github.com/nexus-protocol/nexus/domain/fault"
	"github.com/nexus-protocol/nexus/domain/identity"
	"github.com/nexus-protocol/nexus/domain/trust"
)

type trustProfileJSON struct {
	AgentID      string              `json:"agentId" format:"uuid"`
	TrustScore   float64             `json:"trustScore" doc:"0 to 100, with one decimal."`
	Components   trustComponentsJSON `json:"components"`
	Badge        string              `json:"badge" enum:"New,Established,Trusted,Verified Elite"`
	Confidence   float64             `json:"confidence" doc:"How much of the score rests on evidence: 0 to 1."`
	TaskStats    taskStatsJSON       `json:"taskStats"`
	RatingStats  ratingStatsJSON     `json:"ratingStats"`
	RecentEvents []trustEventJSON    `json:"recentEvents" nullable:"false" doc:"The newest ten."`
}

type trustComponentsJSON struct {
	Reliability float64 `json:"reliability"`
	Speed       float64 `json:"speed"`
	Quality     float64 `json:"quality"`
	Tenure      float64 `json:"tenure"`
}

type taskStatsJSON struct {
	Completed int64 `json:"completed"`
	Failed    int64 `json:"failed"`
	TimedOut  int64 `json:"timedOut"`
	Total     int64 `json:"total"`
}

type ratingStatsJSON struct {
	Count   int64   `json:"count"`
	Average float64 `json:"average" doc:"0 without ratings."`
}

type trustEventJSON struct {
	ID          string          `json:"id" format:"uuid"`
	AgentID     string          `json:"agentId" format:"uuid"`
	EventType   trust.EventType `json:"eventType" enum:"task_completed,task_failed,task_timeout,sla_breach,rating_received,dispute_opened,dispute_resolved"`
	Score       float64         `json:"score" doc:"The change of the score, -10 to 10; for a rating the stars."`
	Reason      string          `json:"reason"`
	TaskID      *string         `json:"taskId" format:"uuid"`
	ScoreBefore float64         `json:"scoreBefore"`
	ScoreAfter  float64         `json:"scoreAfter"`
	CreatedAt   time.Time       `json:"createdAt"`
}

func trustEvent(e trust.Event) trustEventJSON {
	return trustEventJSON{
		ID: e.ID, AgentID: e.AgentID, EventType: e.Type, Score: e.Score, Reason: e.Reason, TaskID: textOrNull(e.TaskID),
		ScoreBefore: e.ScoreBefore, ScoreAfter: e.ScoreAfter, CreatedAt: e.CreatedAt.UTC(),
	}
}

func trustProfile(p app.TrustProfile) trustProfileJSON {
	return trustProfileJSON{
		AgentID: p.AgentID, TrustScore: p.Score, Components: trustComponentsJSON(p.Components), Badge: trust.Badge(p.Score),
		Confidence:   p.Confidence(),
		TaskStats:    taskStatsJSON{p.Tasks.Completed, p.Tasks.Failed, p.Tasks.TimedOut, p.Tasks.Total()},
		RatingStats:  ratingStatsJSON{p.Ratings.Count, p.Ratings.Average()},
		RecentEvents: convert(p.Recent, trustEvent),
	}
}

type trustHistoryInput struct {
	AgentID string `path:"agentId" format:"uuid"`
	Limit   int    `query:"limit" default:"20" minimum:"1" maximum:"100" doc:"How many to answer with."`
	Offset  int    `query:"offset" default:"0" minimum:"0" maximum:"1000000" doc:"How many to pass over."`
	Cursor  string `query:"cursor" maxLength:"512" doc:"meta.nextCursor of an earlier answer about the agent, less than 24 hours old: what comes after it, whatever was added before. offset must not be given."`
}

type trustDailyInput struct {
	AgentID string `path:"agentId" format:"uuid"`
	Days    int    `query:"days" default:"30" minimum:"1" maximum:"365" doc:"How many days to go back, today among them."`
}

type dayScoreJSON struct {
	Date       string  `json:"date" format:"date" doc:"A day in UTC."`
	TrustScore float64 `json:"trustScore" doc:"At the end of the day; of today, now."`
}

func dayScore(d app.DayScore) dayScoreJSON { return dayScoreJSON{d.Day, d.Score} }

type rateInput struct {
	AgentID string `path:"agentId" format:"uuid"`
	Body    rateBody
}

type rateBody struct {
	TaskID  string `json:"taskId" format:"uuid" doc:"A completed task of the agent that the caller asked for."`
	Rating  int    `json:"rating" minimum:"1" maximum:"5" doc:"Stars."`
	Comment string `json:"comment,omitempty" nullable:"true" maxLength:"1000"`
}

func (s *server) mountTrust() {
	register(s, route{
		method: "GET", path: "/api/v1/trust/{agentId}", access: caller, scope: string(identity.ScopeTrustRead),
		id: "get-trust-profile", tag: tagTrust, summary: "Get an agent's trust profile", status: http.StatusOK,
	}, func(ctx context.Context, in *agentInput) (one[trustProfileJSON], error) {
		p, err := s.engine.Trust.Profile(ctx, callerOf(ctx), in.AgentID)
		return answer(trustProfile(p), err)
	})
	register(s, route{
		method: "GET", path: "/api/v1/trust/{agentId}/history", access: caller, scope: string(identity.ScopeTrustRead),
		id: "list-trust-events", tag: tagTrust, summary: "List an agent's trust events", text: "Newest first.", status: http.StatusOK,
	}, func(ctx context.Context, in *trustHistoryInput) (many[trustEventJSON], error) {
		l, err := s.engine.Trust.History(ctx, callerOf(ctx), in.AgentID, app.Page{Limit: &in.Limit, Offset: in.Offset, Cursor: in.Cursor})
		return answerList(l, err, trustEvent)
	})
	register(s, route{
		method: "GET", path: "/api/v1/trust/{agentId}/daily", access: caller, scope: string(identity.ScopeTrustRead),
		id: "list-trust-days", tag: tagTrust, summary: "Get an agent's score of each day", status: http.StatusOK,
		text: "Oldest first; days before the agent's registration are left out.",
	}, func(ctx context.Context, in *trustDailyInput) (one[[]dayScoreJSON], error) {
		days, err := s.engine.Trust.Daily(ctx, callerOf(ctx), in.AgentID, in.Days)
		return answer(convert(days, dayScore), err)
	})
	registerCreate(s, route{
		method: "POST", path: "/api/v1/trust/{agentId}/rate", access: caller, scope: string(identity.ScopeTrustWrite),
		id: "rate-agent", tag: tagTrust, summary: "Rate an agent", status: http.StatusCreated,
		text:   "For the requester of the completed task, once.",
		errors: []fault.Code{fault.CodeTaskNotFound, fault.CodeAlreadyRated},
	}, func(ctx context.Context, in *rateInput) (trust.Event, error) {
		if !isUUID(in.Body.TaskID) {
			return trust.Event{}, noSuch(fault.CodeTaskNotFound, in.Body.TaskID)
		}
		return s.engine.Trust.Rate(ctx, callerOf(ctx), in.AgentID, app.RateAgent{
			TaskID: strings.ToLower(in.Body.TaskID), Stars: in.Body.Rating, Comment: in.Body.Comment,
		})
	}, answerWith(trustEvent), nil)
}
