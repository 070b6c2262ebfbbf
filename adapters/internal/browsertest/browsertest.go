// Package browsertest gives tests and tools a real Chromium without a window.
package browsertest

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/nexus-protocol/nexus/adapters/internal/testrig"
)

// Start starts a browser, which it installs first as root on Debian. The context is that of its first tab; stop ends it.
func Start(ctx context.Context) (tab context.Context, stop func(), err error) {
	path, err := testrig.Program("chromium", "/usr/bin/chromium*", "chromium")
	if err != nil {
		return nil, nil, fmt.Errorf("tests of pages need Chromium: %w", err)
	}
	dir, err := os.MkdirTemp("", "nexus-chromium-")
	if err != nil {
		return nil, nil, err
	}
	alloc, stopAlloc := chromedp.NewExecAllocator(ctx,
		chromedp.ExecPath(path), chromedp.Headless, chromedp.NoSandbox, chromedp.DisableGPU, chromedp.UserDataDir(dir),
		chromedp.Flag("disable-background-networking", true), chromedp.Flag("disable-dev-shm-usage", true), chromedp.Flag("disable-extensions", true),
		chromedp.Flag("no-first-run", true), chromedp.Flag("force-color-profile", "srgb"), chromedp.Flag("hide-scrollbars", true),
		chromedp.WindowSize(1360, 900),
	)
	tab, stopTab := chromedp.NewContext(alloc)
	stop = func() {
		stopTab()
		stopAlloc()
		_ = os.RemoveAll(dir) // it is temporary
	}
	began := make(chan error, 1)
	go func() { began <- chromedp.Do(tab) }()
	select {
	case err = <-began:
	case <-time.After(60 * time.Second):
		err = fmt.Errorf("Chromium did not start within a minute") //nolint:staticcheck // a name
	}
	if err != nil {
		stop()
		return nil, nil, err
	}
	return tab, stop, nil
}
