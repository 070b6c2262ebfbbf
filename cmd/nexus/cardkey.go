package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/nexus-protocol/nexus/adapters/a2agateway"
)

// cardKey is the key that was given, or else one that is made at the first start and kept beside the SQLite file. Agent cards
// are signed with it, and callers' secrets sealed. Processes on PostgreSQL must be given theirs, as all need the same; without
// one it is nil, and neither is done.
func (s *serveCmd) cardKey(e *env, alone bool) ([]byte, error) {
	switch {
	case s.CardKey != "" && s.CardKeyFile != "":
		return nil, errors.New("NEXUS_CARD_KEY and NEXUS_CARD_KEY_FILE are both set; one is enough")
	case s.CardKey != "":
		return []byte(s.CardKey), nil
	case s.CardKeyFile != "":
		key, err := os.ReadFile(s.CardKeyFile)
		if err != nil {
			return nil, fmt.Errorf("NEXUS_CARD_KEY_FILE: %w", err)
		}
		return key, nil
	case !alone:
		e.log.Info("agent cards are not signed, and no push notifications with credentials: give all processes the same NEXUS_CARD_KEY_FILE for both")
		return nil, nil
	default:
		return keptCardKey(filepath.Join(e.cli.DataDir, "card-key.pem"))
	}
}

// keysOf makes of the key what it is used for; nothing of none.
func keysOf(key []byte) (*a2agateway.Signer, [][]byte, error) {
	if key == nil {
		return nil, nil, nil
	}
	signer, err := a2agateway.NewSigner(key)
	if err != nil {
		return nil, nil, fmt.Errorf("the key for agent cards cannot be used: %w", err)
	}
	seal, err := a2agateway.SealKeys(key)
	if err != nil {
		return nil, nil, fmt.Errorf("the key for agent cards cannot seal: %w", err)
	}
	return signer, seal, nil
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
