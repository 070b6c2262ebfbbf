package main

import (
	"errors"
	"fmt"

	"github.com/nexus-protocol/nexus/adapters/logmailer"
	"github.com/nexus-protocol/nexus/adapters/oidcauth"
	"github.com/nexus-protocol/nexus/adapters/smtpmailer"
	"github.com/nexus-protocol/nexus/adapters/supabaseauth"
	"github.com/nexus-protocol/nexus/ports"
)

// signinFlags say how people sign in, and how mail is sent to them.
type signinFlags struct {
	LocalAccounts string `env:"NEXUS_LOCAL_ACCOUNTS" default:"on" enum:"on,off" help:"on, or off: nobody signs up or logs in with a password that is kept here. Needs a provider."`

	SupabaseURL    string `env:"NEXUS_SUPABASE_URL" placeholder:"URL" help:"https://<ref>.supabase.co: passwords are those of this Supabase project."`
	SupabaseKey    string `env:"NEXUS_SUPABASE_KEY" placeholder:"KEY" help:"The project's publishable (anon) key."`
	SupabaseSecret string `env:"NEXUS_SUPABASE_JWT_SECRET" placeholder:"SECRET" help:"The project's JWT secret, if it signs with one; default: its published keys."`

	OIDCIssuer string `name:"oidc-issuer" env:"NEXUS_OIDC_ISSUER" placeholder:"URL" help:"An OpenID Connect provider, as it calls itself. It leads back to NEXUS_PUBLIC_URL/auth/callback/oidc."`
	OIDCClient string `name:"oidc-client-id" env:"NEXUS_OIDC_CLIENT_ID" placeholder:"ID" help:"This server's id at the provider."`
	OIDCSecret string `name:"oidc-client-secret" env:"NEXUS_OIDC_CLIENT_SECRET" placeholder:"SECRET" help:"Its secret there, if it has one."`
	OIDCTitle  string `name:"oidc-title" env:"NEXUS_OIDC_TITLE" default:"OpenID Connect" help:"What people know the provider as."`

	SMTPURL  string `name:"smtp-url" env:"NEXUS_SMTP_URL" placeholder:"URL" help:"smtp://user:password@host:587 (STARTTLS) or smtps://user:password@host:465: where mail is sent through. Default: mails go into the log."`
	MailFrom string `env:"NEXUS_MAIL_FROM" placeholder:"ADDRESS" help:"The sender of mails, such as NEXUS <nexus@example.com>."`
}

// signin is what the flags come to.
type signin struct {
	providers []ports.IdentityProvider
	noLocal   bool
	mailer    ports.Mailer
	publicURL string
}

// check finds what is missing or makes no sense, before anything is opened.
func (f *signinFlags) check(publicURL string) error {
	var wrong []error
	need := func(ok bool, text string) {
		if !ok {
			wrong = append(wrong, errors.New(text))
		}
	}
	need(f.SupabaseURL != "" || f.SupabaseKey == "" && f.SupabaseSecret == "", "NEXUS_SUPABASE_KEY and NEXUS_SUPABASE_JWT_SECRET belong to NEXUS_SUPABASE_URL, which is not set")
	need(f.SupabaseURL == "" || f.SupabaseKey != "", "NEXUS_SUPABASE_URL needs NEXUS_SUPABASE_KEY, the project's publishable (anon) key")
	need(f.OIDCIssuer != "" || f.OIDCClient == "" && f.OIDCSecret == "", "NEXUS_OIDC_CLIENT_ID and NEXUS_OIDC_CLIENT_SECRET belong to NEXUS_OIDC_ISSUER, which is not set")
	need(f.OIDCIssuer == "" || f.OIDCClient != "", "NEXUS_OIDC_ISSUER needs NEXUS_OIDC_CLIENT_ID")
	need(f.OIDCIssuer == "" || publicURL != "", "NEXUS_OIDC_ISSUER needs NEXUS_PUBLIC_URL, as the provider leads people back to it")
	need(f.SMTPURL == "" || f.MailFrom != "", "NEXUS_SMTP_URL needs NEXUS_MAIL_FROM, the sender of mails")
	need(f.SMTPURL == "" || publicURL != "", "NEXUS_SMTP_URL needs NEXUS_PUBLIC_URL, as the links in mails lead back to it")
	need(f.LocalAccounts == "on" || f.SupabaseURL != "" || f.OIDCIssuer != "", "NEXUS_LOCAL_ACCOUNTS=off lets nobody in without NEXUS_SUPABASE_URL or NEXUS_OIDC_ISSUER")
	return errors.Join(wrong...)
}

// signin makes the adapters that the flags ask for.
func (f *signinFlags) signin(e *env, publicURL string) (signin, error) {
	out := signin{noLocal: f.LocalAccounts == "off", mailer: logmailer.New(e.log), publicURL: publicURL}
	if f.SMTPURL != "" {
		m, err := smtpmailer.New(smtpmailer.Options{URL: f.SMTPURL, From: f.MailFrom})
		if err != nil {
			return out, fmt.Errorf("NEXUS_SMTP_URL, NEXUS_MAIL_FROM: %w", err)
		}
		out.mailer = m
	}
	if f.SupabaseURL != "" {
		p, err := supabaseauth.New(supabaseauth.Options{URL: f.SupabaseURL, Key: f.SupabaseKey, Secret: f.SupabaseSecret})
		if err != nil {
			return out, fmt.Errorf("NEXUS_SUPABASE_URL: %w", err)
		}
		out.providers = append(out.providers, p)
	}
	if f.OIDCIssuer != "" {
		p, err := oidcauth.New(oidcauth.Options{Title: f.OIDCTitle, Issuer: f.OIDCIssuer, ClientID: f.OIDCClient, ClientSecret: f.OIDCSecret})
		if err != nil {
			return out, fmt.Errorf("NEXUS_OIDC_ISSUER: %w", err)
		}
		out.providers = append(out.providers, p)
	}
	return out, nil
}
