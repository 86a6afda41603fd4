package lm

import "slices"

// Workers is what the workers that run were given at their start, and profiles that come later may need.
type Workers struct {
	Litellm  bool     // the package is there
	KeyFiles []string // files with keys that they are kept from
	Boxed    bool     // they are kept from the host's secrets
	Strict   bool     // and from the network
}

// CannotHave reports why they cannot have other profiles before a restart, "" if they can. litellm and keyFiles are what those need.
func (w Workers) CannotHave(next *Registry, litellm bool, keyFiles []string) string {
	if litellm && !w.Litellm {
		return "engine litellm needs packages that are installed at the start"
	}
	if w.Boxed && slices.ContainsFunc(keyFiles, func(path string) bool { return !slices.Contains(w.KeyFiles, path) }) {
		return "workers are kept from the key files that were named at their start"
	}
	if w.Strict {
		if err := next.Outside(); err != nil {
			return err.Error()
		}
	}
	return ""
}
