package sandbox

import "fmt"

// Level is how much the workers are kept from. A higher one promises all that a lower one does.
type Level int

// None: a worker may do what the user of the host may. User: it reaches neither the host's secrets nor other workers, and writes nowhere but into
// a directory of its own. Strict: it also has no network, and the keys of language models stay in the host.
const (
	None Level = iota
	User
	Strict
)

var levelNames = []string{"none", "user", "strict"}

func (l Level) String() string { return levelNames[l] }

// parse reads a level's name.
func parse(flag, name string) (Level, error) {
	for l, known := range levelNames {
		if name == known {
			return Level(l), nil
		}
	}
	return None, fmt.Errorf("--%s must be none, user or strict, got %q", flag, name)
}
