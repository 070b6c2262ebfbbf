package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/nexus-protocol/nexus/adapters/a2agateway"
)

// cardSigner signs the agent cards with the key that was given, or else with one that is made at the first start and kept
// beside the SQLite file. Processes on PostgreSQL must be given theirs, as all need the same; without one, nil, cards are not
// signed.
func (s *serveCmd) cardSigner(e *env, alone bool) (*a2agateway.Signer, error) {
	key := []byte(s.CardKey)
	switch {
	case s.CardKey != "" && s.CardKeyFile != "":
		return nil, errors.New("NEXUS_CARD_KEY and NEXUS_CARD_KEY_FILE are both set; one is enough")
	case s.CardKey != "":
	case s.CardKeyFile != "":
		var err error
		if key, err = os.ReadFile(s.CardKeyFile); err != nil {
			return nil, fmt.Errorf("NEXUS_CARD_KEY_FILE: %w", err)
		}
	case !alone:
		e.log.Info("agent cards are not signed: give all processes the same NEXUS_CARD_KEY_FILE to sign them")
		return nil, nil
	default:
		var err error
		if key, err = keptCardKey(filepath.Join(e.cli.DataDir, "card-key.pem")); err != nil {
			return nil, err
		}
	}
	signer, err := a2agateway.NewSigner(key)
	if err != nil {
		return nil, fmt.Errorf("the key for agent cards cannot be used: %w", err)
	}
	return signer, nil
}

// keptCardKey reads the key, or makes it whole at once.
func keptCardKey(path string) ([]byte, error) {
	key, err := os.ReadFile(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return key, err
	}
	if key, err = a2agateway.NewCardKey(); err != nil {
		return nil, err
	}
	if err := os.WriteFile(path+".new", key, 0o600); err != nil {
		return nil, err
	}
	return key, os.Rename(path+".new", path)
}
