//go:build linux && !amd64 && !arm64

package sandbox

const filters = false

func filter(Level) []byte { return nil }
