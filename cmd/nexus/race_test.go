//go:build race

package main

// raceFactor is how much longer than usual things may take, as the race detector is watching.
const raceFactor = 10
