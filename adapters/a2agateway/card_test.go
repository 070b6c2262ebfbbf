package a2agateway_test

import (
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"testing"

	"github.com/go-jose/go-jose/v4"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nexus-protocol/nexus/adapters/a2agateway"
	"github.com/nexus-protocol/nexus/domain/task"
	"github.com/nexus-protocol/nexus/ports"
)

func newSigner(t *testing.T) *a2agateway.Signer {
	t.Helper()
	key, err := a2agateway.NewCardKey()
	require.NoError(t, err)
	s, err := a2agateway.NewSigner(key)
	require.NoError(t, err)
	return s
}

func (r *rig) read(path string, headers ...string) (object, http.Header) {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), http.MethodGet, r.url+path, nil)
	require.NoError(r.t, err)
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	require.NoError(r.t, err)
	defer func() { _ = resp.Body.Close() }()
	require.Equal(r.t, http.StatusOK, resp.StatusCode)
	var v object
	require.NoError(r.t, json.NewDecoder(resp.Body).Decode(&v))
	return v, resp.Header
}

// verify checks the signatures of a card that say to be over this form of it, with the published keys, and returns how many
// hold. What goes in is sorted as encoding/json does it, which for these cards is RFC 8785's way.
func (r *rig) verify(signatures []any, form object) int {
	r.t.Helper()
	raw, _ := r.read("/.well-known/jwks.json")
	text, err := json.Marshal(raw)
	require.NoError(r.t, err)
	var keys jose.JSONWebKeySet
	require.NoError(r.t, json.Unmarshal(text, &keys))
	require.NotEmpty(r.t, keys.Keys)
	payload, err := json.Marshal(form)
	require.NoError(r.t, err)
	n := 0
	for _, s := range signatures {
		s := s.(object)
		jws, err := jose.ParseDetached(s["protected"].(string)+".."+s["signature"].(string), payload, []jose.SignatureAlgorithm{jose.ES256, jose.EdDSA})
		require.NoError(r.t, err)
		h := jws.Signatures[0].Header
		require.Equal(r.t, r.url+"/.well-known/jwks.json", h.ExtraHeaders["jku"])
		require.Equal(r.t, "JOSE", h.ExtraHeaders[jose.HeaderType])
		key := keys.Key(h.KeyID)
		require.Len(r.t, key, 1)
		if jws.DetachedVerify(payload, key[0]) == nil {
			n++
		}
	}
	return n
}

func without(card object, names ...string) object {
	out := object{}
	for k, v := range card {
		out[k] = v
	}
	for _, n := range names {
		delete(out, n)
	}
	return out
}

// The cards' signatures hold over what each version's readers see, under the keys that are published.
func TestCardsAreSigned(t *testing.T) {
	r := newRig(t)
	dear := r.register(r.owner, 1000, nil)
	for _, path := range []string{"", door(dear)} {
		both, header := r.read(path + "/.well-known/agent-card.json")
		again, _ := r.read(path + "/.well-known/agent.json")
		assert.Equal(t, both, again)
		assert.NotEmpty(t, header.Get("Last-Modified"))
		only, header := r.read(path+"/.well-known/agent-card.json", "A2A-Version", "1.0")
		assert.Equal(t, "A2A-Version", header.Get("Vary"))
		assert.NotContains(t, only, "url")
		signatures := both["signatures"].([]any)
		require.Len(t, signatures, 2)
		assert.Equal(t, signatures[:1], only["signatures"], "the same card has the same signature")
		assert.Equal(t, 1, r.verify(signatures[:1], without(only, "signatures")), "what 1.0 knows")
		assert.Equal(t, 1, r.verify(signatures[1:], without(both, "signatures")), "the text as it is")
		forged := without(both, "signatures")
		forged["name"] = "Another"
		assert.Zero(t, r.verify(signatures, forged))
	}
}

func TestKeysOfCards(t *testing.T) {
	_, private, err := ed25519.GenerateKey(nil)
	require.NoError(t, err)
	der, err := x509.MarshalPKCS8PrivateKey(private)
	require.NoError(t, err)
	mine := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	der, err = x509.MarshalPKIXPublicKey(private.Public())
	require.NoError(t, err)
	public := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	other, err := a2agateway.NewCardKey()
	require.NoError(t, err)
	for _, good := range [][]byte{mine, other, append(mine, other...), append(other, public...)} {
		_, err = a2agateway.NewSigner(good)
		require.NoError(t, err)
	}
	for _, bad := range []string{"", "x", string(public), "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"} {
		_, err = a2agateway.NewSigner([]byte(bad))
		require.Error(t, err, bad)
	}
}

// Who shows a key is told what there is for a price.
func TestExtendedCard(t *testing.T) {
	r := newRig(t)
	dear := r.register(r.owner, 1050, nil)
	auth := []string{"Authorization", "Bearer " + r.key}
	for _, method := range []string{"agent/getAuthenticatedExtendedCard", "GetExtendedAgentCard"} {
		assert.Equal(t, http.StatusUnauthorized, r.call("/api/v1/a2a", method, object{}).status)
		all := r.call("/api/v1/a2a", method, object{}, auth...).result()
		assert.Contains(t, r.call("/api/v1/a2a", method, object{}, auth...).body, dear.ID)
		one := r.call(door(dear), method, object{}, auth...).result()
		terms := one["capabilities"].(object)["extensions"].([]any)[0].(object)["params"].(object)
		assert.Equal(t, dear.ID, terms["agentId"])
		assert.Equal(t, "10.5", terms["pricePerTask"])
		for _, card := range []object{all, one} {
			signatures := card["signatures"].([]any)
			assert.Positive(t, r.verify(signatures, without(card, "signatures")))
			assert.Equal(t, true, card["capabilities"].(object)["extendedAgentCard"])
		}
	}
	// The same below the door, without JSON-RPC.
	for _, at := range []string{"/api/v1/a2a", door(dear)} {
		for _, path := range []string{at + "/v1/card", at + "/v1/card/"} {
			for _, header := range []string{"", "Bearer nxk_wrong", "Basic eA=="} {
				req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, r.url+path, nil)
				require.NoError(t, err)
				req.Header.Set("Authorization", header)
				resp, err := http.DefaultTransport.RoundTrip(req) // follows no redirect
				require.NoError(t, err)
				var refused struct{ Error struct{ Code string } }
				require.NoError(t, json.NewDecoder(resp.Body).Decode(&refused))
				require.NoError(t, resp.Body.Close())
				assert.Equal(t, http.StatusUnauthorized, resp.StatusCode, path)
				assert.Equal(t, "Bearer", resp.Header.Get("WWW-Authenticate"))
				assert.Equal(t, "UNAUTHORIZED", refused.Error.Code)
			}
			both, h := r.read(path, auth...)
			assert.Equal(t, r.call(at, "agent/getAuthenticatedExtendedCard", object{}, auth...).result(), both)
			assert.Contains(t, h.Get("Cache-Control"), "private", "it is not for everybody")
			only, _ := r.read(path, append(auth, "A2A-Version", "1.0")...)
			assert.Equal(t, r.call(at, "GetExtendedAgentCard", object{}, auth...).result(), only)
		}
	}
	open, _ := r.read("/.well-known/agent-card.json")
	assert.Len(t, open["skills"], 1)
}

// An agent that answers with a message instead of a task is quoted as it answered.
func TestADirectAnswerIsAMessage(t *testing.T) {
	r := newRig(t)
	a := r.register(r.owner, 0, func(context.Context, ports.Call) (ports.Answer, error) {
		return ports.Answer{State: ports.AnswerDone, Messages: []task.Message{{ID: "said", Role: task.RoleAgent, Parts: []task.Part{task.TextPart("hi")}}}}, nil
	})
	b := r.register(r.owner, 0, func(context.Context, ports.Call) (ports.Answer, error) {
		return ports.Answer{State: ports.AnswerDone, RemoteTaskID: "r", Messages: []task.Message{{ID: "said", Role: task.RoleAgent, Parts: []task.Part{task.TextPart("hi")}}}}, nil
	})
	old := r.call(door(a), "message/send", says("0.3", "1", "x", nil)).result()
	assert.Equal(t, "message", old["kind"])
	assert.Equal(t, "said", old["messageId"])
	assert.NotEmpty(t, old["taskId"])
	assert.Equal(t, "ROLE_AGENT", r.call(door(a), "SendMessage", says("1.0", "2", "x", nil)).result()["message"].(object)["role"])
	assert.Equal(t, "task", r.call(door(b), "message/send", says("0.3", "3", "x", nil)).result()["kind"])
}

// Machines read from an error what it is, under A2A's names where there are such.
func TestErrorsExplainThemselves(t *testing.T) {
	r := newRig(t)
	a := r.register(r.owner, 0, nil)
	data := func(v answer) []any { return v.rpc()["error"].(object)["data"].([]any) }
	info := data(r.call(door(a), "GetTask", object{"id": "x"}))[0].(object)
	assert.Equal(t, "TASK_NOT_FOUND", info["reason"])
	assert.Equal(t, "a2a-protocol.org", info["domain"])
	v := data(r.call("/api/v1/a2a", "SendMessage", says("1.0", "1", "x", nil)))
	assert.Equal(t, "nexus", v[0].(object)["domain"])
	assert.Equal(t, "params", v[1].(object)["fieldViolations"].([]any)[0].(object)["field"])
	v = data(r.call(door(a), "GetTask", object{"id": "x"}, "A2A-Version", "7"))
	assert.Equal(t, "VERSION_NOT_SUPPORTED", v[0].(object)["reason"])
}
