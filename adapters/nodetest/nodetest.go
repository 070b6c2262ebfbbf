// Package nodetest gets Node's packages for tests that speak to other implementations.
package nodetest

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/nexus-protocol/nexus/adapters/internal/testrig"
)

// Install puts the packages that a folder with package.json and package-lock.json pins, with what else is in it, into the
// user's cache, once for each state of the lock file, and returns where. It needs Node and npm, which it installs as root on
// Debian.
func Install(folder string) (string, error) {
	if _, err := testrig.Program("node", "/usr/bin/node", "nodejs"); err != nil {
		return "", err
	}
	npm, err := testrig.Program("npm", "/usr/bin/npm", "npm")
	if err != nil {
		return "", err
	}
	lock, err := os.ReadFile(filepath.Join(folder, "package-lock.json"))
	if err != nil {
		return "", err
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}
	sum := sha256.Sum256(lock)
	dir := filepath.Join(cache, "nexus-interop", hex.EncodeToString(sum[:8]))
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		return "", err
	}
	fresh, err := os.MkdirTemp(filepath.Dir(dir), "new-")
	if err != nil {
		return "", err
	}
	defer func() { _ = os.RemoveAll(fresh) }() // gone already if all went well
	if err := os.CopyFS(fresh, os.DirFS(folder)); err != nil {
		return "", err
	}
	cmd := exec.Command(npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund")
	cmd.Dir = fresh
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("npm ci: %w: %s", err, out)
	}
	if err := os.Rename(fresh, dir); err != nil {
		if _, there := os.Stat(dir); there != nil {
			return "", err
		}
	}
	return dir, nil
}
