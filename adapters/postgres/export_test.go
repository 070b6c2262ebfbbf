package postgres

// WithCommit puts a fault around every COMMIT.
func WithCommit(around func(commit func() error) error) Option {
	return func(o *options) { o.commit = around }
}
