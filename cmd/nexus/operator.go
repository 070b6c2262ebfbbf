package main

import (
	"bufio"
	"errors"
	"fmt"
	"strings"

	"github.com/nexus-protocol/nexus/app"
	"github.com/nexus-protocol/nexus/domain/identity"
	"github.com/nexus-protocol/nexus/domain/ledger"
)

type migrateCmd struct {
	Status migrateStatusCmd `cmd:"" help:"List the migrations and which are applied."`
	Up     migrateUpCmd     `cmd:"" help:"Apply what is missing."`
	Down   migrateDownCmd   `cmd:"" help:"Take back the newest migration. Its data is lost."`
}

type migrateStatusCmd struct{}

func (migrateStatusCmd) Run(e *env) error {
	db, err := e.database()
	if err != nil {
		return err
	}
	return db.print(e)
}

func (db database) print(e *env) error {
	list, err := db.status(e)
	if err != nil {
		return err
	}
	for _, m := range list {
		state := "pending"
		if m.Applied {
			state = "applied " + m.AppliedAt.UTC().Format("2006-01-02 15:04:05")
		}
		fmt.Fprintf(e.out, "%05d  %-30s  %s\n", m.Version, m.Name, state)
	}
	return nil
}

type migrateUpCmd struct{}

func (migrateUpCmd) Run(e *env) error {
	db, err := e.database()
	if err != nil {
		return err
	}
	if err := db.migrate(e); err != nil {
		return err
	}
	return db.print(e)
}

type migrateDownCmd struct{}

func (migrateDownCmd) Run(e *env) error {
	db, err := e.database()
	if err != nil {
		return err
	}
	if db.lock != nil {
		release, err := db.lock()
		if err != nil {
			return fmt.Errorf("stop the server first: %w", err)
		}
		defer release()
	}
	if err := db.down(e); err != nil {
		return err
	}
	return db.print(e)
}

type userCreateCmd struct {
	Email string `required:"" help:"The account's e-mail."`
	Admin bool   `help:"Make it an admin."`
}

// Run reads the password from standard input, so that it stands in no process list and no shell history.
func (c *userCreateCmd) Run(e *env) error {
	fmt.Fprint(e.errOut, "Password: ")
	password, err := bufio.NewReader(e.in).ReadString('\n')
	password = strings.TrimRight(password, "\r\n")
	if err != nil && password == "" {
		return errors.New("give the password on standard input, such as: nexus user create --email you@example.com < password.txt")
	}
	return e.withEngine(func(engine *app.Engine) error {
		role := identity.RoleUser
		if c.Admin {
			role = identity.RoleAdmin
		}
		u, err := engine.Identity.CreateUser(e, app.Credentials{Email: c.Email, Password: password}, role)
		if err != nil {
			return err
		}
		fmt.Fprintf(e.out, "%s %s %s\n", u.ID, u.Email, u.Role)
		return nil
	})
}

type userLinkCmd struct {
	Email   string `required:"" help:"The account's e-mail."`
	Issuer  string `required:"" help:"The provider, as it calls itself, such as https://id.example.com or https://<ref>.supabase.co/auth/v1."`
	Subject string `required:"" help:"The person's id there."`
}

// Run is for people whose e-mail has an account here that they cannot log in to otherwise.
func (c *userLinkCmd) Run(e *env) error {
	return e.withEngine(func(engine *app.Engine) error {
		if err := engine.Identity.LinkIdentity(e, c.Email, c.Issuer, c.Subject); err != nil {
			return err
		}
		fmt.Fprintf(e.out, "%s comes in as %s of %s\n", c.Email, c.Subject, c.Issuer)
		return nil
	})
}

type keyCreateCmd struct {
	Agent         string   `required:"" help:"The id of the agent that the key is for."`
	Name          string   `default:"command line" help:"What to call it."`
	Scopes        []string `default:"*" help:"What it allows, such as tasks:read,tasks:write."`
	ExpiresInDays *int     `help:"Days until it ends, 1 to 365; never without."`
}

func (c *keyCreateCmd) Run(e *env) error {
	return e.withEngine(func(engine *app.Engine) error {
		key, err := engine.Identity.CreateKeyFor(e, c.Agent, identity.NewKey{Name: c.Name, Scopes: c.Scopes, ExpiresInDays: c.ExpiresInDays})
		if err != nil {
			return err
		}
		fmt.Fprintln(e.out, key.Secret)
		return nil
	})
}

type trustVerifyCmd struct {
	Agents []string `arg:"" name:"agent" help:"The ids of the agents."`
}

// Run works the agents' profiles out again from their events, and fails if any is not what they lead to.
func (c *trustVerifyCmd) Run(e *env) error {
	return e.withEngine(func(engine *app.Engine) error {
		wrong := 0
		for _, id := range c.Agents {
			v, err := engine.Trust.Verify(e, id)
			if err != nil {
				return err
			}
			if v.Wrong == "" {
				fmt.Fprintf(e.out, "%s  %d events, as kept\n", id, v.Events)
				continue
			}
			wrong++
			fmt.Fprintf(e.out, "%s  %d events: %s\n", id, v.Events, v.Wrong)
		}
		if wrong > 0 {
			return fmt.Errorf("%d of %d profiles do not agree with their events", wrong, len(c.Agents))
		}
		return nil
	})
}

type ledgerVerifyCmd struct {
	Head string `help:"The head that an earlier verification printed: what was sealed up to it must be as it was then."`
}

// Run holds the ledger against itself, and fails if anything is wrong with it.
func (c *ledgerVerifyCmd) Run(e *env) error {
	var expected *ledger.Head
	if c.Head != "" {
		h, err := ledger.ParseHead(c.Head)
		if err != nil {
			return err
		}
		expected = &h
	}
	return e.withEngine(func(engine *app.Engine) error {
		r, err := engine.Billing.Verify(e, expected)
		if err != nil {
			return err
		}
		for _, f := range r.Findings {
			fmt.Fprintln(e.out, f)
		}
		if r.Wrong > 0 {
			return fmt.Errorf("%d things are wrong with the ledger", r.Wrong)
		}
		head := "nothing is sealed yet"
		if r.Seals > 0 {
			head = "head " + r.Head.String()
		}
		fmt.Fprintf(e.out, "all is well: %d entries, %d accounts, %d holds, %d seals over %d entries, %s\n", r.Entries, r.Accounts, r.Holds, r.Seals, r.Sealed, head)
		return nil
	})
}
