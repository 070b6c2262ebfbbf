// Command nexus is the NEXUS server and its operator's tools. It only wires: it reads the configuration, picks adapters,
// starts them and stops them.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"
)

// version is set by the linker.
var version = "dev"

type cli struct {
	DatabaseURL     string     `env:"NEXUS_DATABASE_URL" placeholder:"URL" help:"postgres://user:password@host/name to keep the state in PostgreSQL; without it, in a SQLite file."`
	DiscoveryAgents int        `env:"NEXUS_DISCOVERY_AGENTS" default:"2000000" help:"Up to how many agents a process keeps in memory to search them, at some 400 bytes each; 0 for none. Of more the database searches."`
	DataDir         string     `env:"NEXUS_DATA_DIR" default:"nexus-data" placeholder:"DIR" help:"Where the SQLite file is kept."`
	LogLevel        slog.Level `env:"NEXUS_LOG_LEVEL" default:"info" help:"debug, info, warn or error."`
	LogFormat       string     `env:"NEXUS_LOG_FORMAT" default:"text" enum:"text,json" help:"text or json."`

	Serve   serveCmd   `cmd:"" help:"Run the server."`
	Migrate migrateCmd `cmd:"" help:"Look at or change the database's schema. The server does 'up' by itself at start."`
	User    struct {
		Create userCreateCmd `cmd:"" help:"Make an account."`
		Link   userLinkCmd   `cmd:"" help:"Let an identity of an identity provider in to an account."`
	} `cmd:"" help:"Accounts."`
	Key struct {
		Create keyCreateCmd `cmd:"" help:"Make an API key for an agent and print it once."`
	} `cmd:"" help:"API keys."`
	Credits struct {
		Grant creditsGrantCmd `cmd:"" help:"Give a user credits, in the name of an admin."`
	} `cmd:"" help:"Credits."`
	Trust struct {
		Verify trustVerifyCmd `cmd:"" help:"Work agents' trust profiles out again from their events."`
	} `cmd:"" help:"Trust."`
	Ledger struct {
		Verify ledgerVerifyCmd `cmd:"" help:"Work the whole ledger out again from its entries."`
	} `cmd:"" help:"The ledger."`
	Seed    seedCmd          `cmd:"" help:"Fill an empty database with a made-up history, to look at."`
	Version kong.VersionFlag `help:"Print the version and exit."`
}

// env is what every command gets: where to write, and the settings that all share.
type env struct {
	context.Context
	out, errOut io.Writer
	in          io.Reader
	cli         *cli
	log         *slog.Logger
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "nexus:", err)
		stop()
		os.Exit(1)
	}
}

// run is main without the process around it.
func run(ctx context.Context, args []string, in io.Reader, out, errOut io.Writer) error {
	var c cli
	parser, err := kong.New(&c,
		kong.Name("nexus"),
		kong.Description("The engine of an agent economy. 'nexus serve --demo' is the place to start."),
		kong.Vars{"version": version, "metricsAddr": defaultMetricsAddr},
		kong.Writers(out, errOut),
		kong.UsageOnError(),
	)
	if err != nil {
		return err
	}
	cmd, err := parser.Parse(args)
	if err != nil {
		var usage *kong.ParseError
		if errors.As(err, &usage) {
			return fmt.Errorf("%w (see nexus --help)", err)
		}
		return err
	}
	var handler slog.Handler = slog.NewTextHandler(errOut, &slog.HandlerOptions{Level: c.LogLevel})
	if c.LogFormat == "json" {
		handler = slog.NewJSONHandler(errOut, &slog.HandlerOptions{Level: c.LogLevel})
	}
	return cmd.Run(&env{Context: ctx, out: out, errOut: errOut, in: in, cli: &c, log: slog.New(handler)})
}
