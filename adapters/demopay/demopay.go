// Package demopay plays checkout: a ports.Payments whose payers find a page of this server and pay with a button. No money
// moves. It is for trying things out, and says so.
package demopay

import (
	"bytes"
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html/template"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/nexus-protocol/nexus/domain/billing"
	"github.com/nexus-protocol/nexus/domain/fault"
	"github.com/nexus-protocol/nexus/ports"
)

var _ ports.Payments = (*Payments)(nil)

const (
	path      = "/demo/checkout"
	tolerance = 300 * time.Second
	openFor   = 24 * time.Hour
	maxForm   = 16 << 10
)

// Patterns are those of the routes that Handler serves.
func Patterns() []string { return []string{"GET " + path, "POST " + path} }

// Options say where the page is and where it leads. The URLs must be set.
type Options struct {
	BaseURL    string // of this server, such as http://127.0.0.1:8080
	SuccessURL string
	CancelURL  string
	Now        func() time.Time // default: time.Now
}

// Payments is the player.
type Payments struct {
	opt    Options
	key    []byte
	origin *http.CrossOriginProtection
}

// New makes the adapter. What it signs holds as long as it lives.
func New(opt Options) *Payments {
	if opt.Now == nil {
		opt.Now = time.Now
	}
	p := &Payments{opt: opt, key: make([]byte, 32), origin: http.NewCrossOriginProtection()}
	_, _ = rand.Read(p.key) // it never fails
	return p
}

// Name implements ports.Payments.
func (*Payments) Name() string { return "demo" }

// order is what the page's address says, signed.
type order struct {
	ID       string        `json:"id"`
	UserID   string        `json:"user"`
	Package  string        `json:"package"`
	Name     string        `json:"name"`
	Credits  string        `json:"credits"`
	Price    billing.Money `json:"price"`
	OpenTill int64         `json:"till"`
}

// Begin implements ports.Payments. Grants are not played.
func (p *Payments) Begin(_ context.Context, o billing.Order) (billing.Checkout, error) {
	if o.Grant != nil {
		return billing.Checkout{}, billing.NotConfigured()
	}
	text, err := json.Marshal(order{
		ID: o.ID, UserID: o.UserID, Package: o.Package.ID, Name: o.Package.Name, Credits: o.Package.Credits.String(), Price: o.Package.Price,
		OpenTill: p.opt.Now().Add(openFor).Unix(),
	})
	if err != nil {
		return billing.Checkout{}, fmt.Errorf("encode order: %w", err)
	}
	link := strings.TrimRight(p.opt.BaseURL, "/") + path + "?order=" + encode(text) + "." + encode(p.sign("order", text))
	return billing.Checkout{SessionID: session(o.ID), URL: link}, nil
}

func session(id string) string { return "demo_" + id }

var encode = base64.RawURLEncoding.EncodeToString

// sign is for one purpose alone.
func (p *Payments) sign(purpose string, text []byte) []byte {
	h := hmac.New(sha256.New, p.key)
	h.Write([]byte(purpose + "\x00"))
	h.Write(text)
	return h.Sum(nil)
}

// open reads an order that this server has signed.
func (p *Payments) open(signed string) (o order, ok bool) {
	text, mac, _ := strings.Cut(signed, ".")
	body, err := base64.RawURLEncoding.DecodeString(text)
	sum, err2 := base64.RawURLEncoding.DecodeString(mac)
	if err != nil || err2 != nil || !hmac.Equal(sum, p.sign("order", body)) || json.Unmarshal(body, &o) != nil {
		return order{}, false
	}
	return o, p.opt.Now().Unix() < o.OpenTill
}

// deliver signs an event as it is delivered now.
func (p *Payments) deliver(e billing.Event) (ports.Delivery, error) {
	body, err := json.Marshal(e)
	if err != nil {
		return ports.Delivery{}, fmt.Errorf("encode event: %w", err)
	}
	return ports.Delivery{Body: body, Signature: p.Sign(body, p.opt.Now())}, nil
}

// Sign is the signature of a body that is delivered then.
func (p *Payments) Sign(body []byte, at time.Time) string {
	t := strconv.FormatInt(at.Unix(), 10)
	return "t=" + t + ",v1=" + encode(p.sign("event "+t, body))
}

// Read implements ports.Payments.
func (p *Payments) Read(_ context.Context, d ports.Delivery) (e billing.Event, err error) {
	var bad fault.Fields
	rest, _ := strings.CutPrefix(d.Signature, "t=")
	text, mac, _ := strings.Cut(rest, ",v1=")
	at, err := strconv.ParseInt(text, 10, 64)
	sum, err2 := base64.RawURLEncoding.DecodeString(mac)
	off := p.opt.Now().Sub(time.Unix(at, 0))
	if err != nil || err2 != nil || !hmac.Equal(sum, p.sign("event "+text, d.Body)) || off > tolerance || off < -tolerance {
		bad.Add("Stripe-Signature", "is not the signature of this body, or of another time")
		return billing.Event{}, bad.Err()
	}
	if json.Unmarshal(d.Body, &e) != nil {
		bad.Add("body", "is no event that can be read")
		return billing.Event{}, bad.Err()
	}
	e.Provider = p.Name()
	return e, e.Check()
}

// paid is the event of an order that was paid. It has the same id however often the button is pressed.
func (p *Payments) paid(o order) billing.Event {
	return billing.Event{
		ID: "demo_paid_" + o.ID, Kind: billing.EventPaid, Provider: p.Name(), SessionID: session(o.ID), PaymentID: "demo_payment_" + o.ID, PurchaseID: o.ID,
		UserID: o.UserID, PackageID: o.Package, Amount: o.Price, At: p.opt.Now().UTC(),
	}
}

//go:embed page.html
var pageText string

//go:embed style.css
var style string

var (
	page = template.Must(template.New("").Funcs(template.FuncMap{
		"style": func() template.CSS { return template.CSS(style) }, //nolint:gosec // our own file
	}).Parse(pageText))
	policy = func() string {
		sum := sha256.Sum256([]byte(style))
		return "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
	}()
)

// pageData is what the page shows.
type pageData struct {
	Order  *order // nil: there is none that can be paid
	Price  string
	Signed string
	Error  string
}

// Handler serves the page. deliver is given what Stripe would send to the webhook.
func (p *Payments) Handler(deliver func(context.Context, ports.Delivery) error) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+path, func(w http.ResponseWriter, r *http.Request) {
		signed := r.URL.Query().Get("order")
		o, ok := p.open(signed)
		if !ok {
			show(w, http.StatusNotFound, pageData{Error: "This checkout is not open any more. Begin again where you came from."})
			return
		}
		show(w, http.StatusOK, pageOf(o, signed))
	})
	mux.HandleFunc("POST "+path, func(w http.ResponseWriter, r *http.Request) {
		if p.origin.Check(r) != nil {
			show(w, http.StatusForbidden, pageData{Error: "A page of another site may not do this."})
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxForm)
		if err := r.ParseForm(); err != nil {
			show(w, http.StatusBadRequest, pageData{Error: "This is no form that can be read."})
			return
		}
		signed := r.PostForm.Get("order")
		o, ok := p.open(signed)
		switch {
		case !ok:
			show(w, http.StatusNotFound, pageData{Error: "This checkout is not open any more. Begin again where you came from."})
			return
		case r.PostForm.Get("do") != "pay":
			http.Redirect(w, r, p.opt.CancelURL, http.StatusSeeOther)
			return
		}
		d, err := p.deliver(p.paid(o))
		if err == nil {
			err = deliver(r.Context(), d)
		}
		if err != nil {
			data := pageOf(o, signed)
			data.Error = "That did not work. Please try again."
			show(w, http.StatusServiceUnavailable, data)
			return
		}
		http.Redirect(w, r, p.opt.SuccessURL, http.StatusSeeOther)
	})
	return mux
}

func pageOf(o order, signed string) pageData {
	price := fmt.Sprintf("%d.%02d %s", o.Price.Amount/100, o.Price.Amount%100, strings.ToUpper(o.Price.Currency))
	o.Name = cmp.Or(o.Name, o.Package)
	return pageData{Order: &o, Price: price, Signed: signed}
}

func show(w http.ResponseWriter, status int, data pageData) {
	var b bytes.Buffer
	if err := page.Execute(&b, data); err != nil {
		http.Error(w, "the page cannot be shown", http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer") // the address is all that is needed to pay
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes()) // whoever does not read it is gone
}
