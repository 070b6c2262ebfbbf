// Package manualpay is credits given by hand: a ports.Payments that sells nothing, and settles what an admin gives at once.
package manualpay

import (
	"context"

	"github.com/nexus-protocol/nexus/domain/billing"
	"github.com/nexus-protocol/nexus/domain/credits"
	"github.com/nexus-protocol/nexus/domain/fault"
	"github.com/nexus-protocol/nexus/ports"
)

var _ ports.Payments = (*Payments)(nil)

// Options bound what is given.
type Options struct {
	Max credits.Amount // of one grant; default billing.MaxGrant
}

// Payments is the hand that gives.
type Payments struct{ opt Options }

// New makes the adapter.
func New(opt Options) *Payments {
	if opt.Max <= 0 || opt.Max > billing.MaxGrant {
		opt.Max = billing.MaxGrant
	}
	return &Payments{opt}
}

// Name implements ports.Payments.
func (*Payments) Name() string { return "manual" }

// Begin implements ports.Payments. There is nobody to be paid by.
func (p *Payments) Begin(_ context.Context, o billing.Order) (billing.Checkout, error) {
	if o.Grant == nil {
		return billing.Checkout{}, billing.NotConfigured()
	}
	if err := o.Grant.Check(); err != nil {
		return billing.Checkout{}, err
	}
	if o.Grant.Credits > p.opt.Max {
		var bad fault.Fields
		bad.Add("amount", "must be at most %s on this server", p.opt.Max)
		return billing.Checkout{}, bad.Err()
	}
	return billing.Checkout{SessionID: "manual_" + o.ID, Settled: true}, nil
}

// Read implements ports.Payments. Nobody delivers anything.
func (*Payments) Read(context.Context, ports.Delivery) (billing.Event, error) {
	return billing.Event{}, billing.NotConfigured()
}
