package main

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// A server whose sign-in makes no sense does not start, and says which variable it is; no secret is said with it.
func TestSignInThatMakesNoSense(t *testing.T) {
	for want, env := range map[string]map[string]string{
		"NEXUS_MAIL_FROM":      {"NEXUS_SMTP_URL": "smtp://u:topsecret@h", "NEXUS_PUBLIC_URL": "https://nexus.example.com"},
		"NEXUS_PUBLIC_URL":     {"NEXUS_SMTP_URL": "smtp://u:topsecret@h", "NEXUS_MAIL_FROM": "a@example.com"},
		"mail server":          {"NEXUS_SMTP_URL": "ftp://u:topsecret@h", "NEXUS_MAIL_FROM": "a@example.com", "NEXUS_PUBLIC_URL": "https://nexus.example.com"},
		"NEXUS_SUPABASE_KEY":   {"NEXUS_SUPABASE_URL": "https://x.supabase.co"},
		"https://":             {"NEXUS_SUPABASE_URL": "http://x.supabase.co", "NEXUS_SUPABASE_KEY": "topsecret"},
		"NEXUS_SUPABASE_URL":   {"NEXUS_SUPABASE_JWT_SECRET": "topsecret"},
		"32 characters":        {"NEXUS_SUPABASE_URL": "https://x.supabase.co", "NEXUS_SUPABASE_KEY": "k", "NEXUS_SUPABASE_JWT_SECRET": "topsecret"},
		"NEXUS_OIDC_CLIENT_ID": {"NEXUS_OIDC_ISSUER": "https://id.example.com", "NEXUS_PUBLIC_URL": "https://nexus.example.com"},
		"NEXUS_PUBLIC_URL,":    {"NEXUS_OIDC_ISSUER": "https://id.example.com", "NEXUS_OIDC_CLIENT_ID": "c"},
		"issuer must":          {"NEXUS_OIDC_ISSUER": "http://id.example.com", "NEXUS_OIDC_CLIENT_ID": "c", "NEXUS_PUBLIC_URL": "https://nexus.example.com"},
		"NEXUS_OIDC_ISSUER":    {"NEXUS_OIDC_CLIENT_SECRET": "topsecret"},
		"lets nobody in":       {"NEXUS_LOCAL_ACCOUNTS": "off"},
	} {
		t.Run(want, func(t *testing.T) {
			t.Setenv("NEXUS_DATA_DIR", t.TempDir())
			t.Setenv("NEXUS_ADDR", "127.0.0.1:0")
			for name, value := range env {
				t.Setenv(name, value)
			}
			var buf syncBuffer
			err := run(t.Context(), []string{"serve"}, nil, &buf, &buf)
			require.ErrorContains(t, err, want)
			require.NotContains(t, err.Error()+buf.String(), "topsecret")
		})
	}
}
