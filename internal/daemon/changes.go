package daemon

import (
	"github.com/spf13/pflag"

	"github.com/dspex/dspex/internal/control"
)

// Reload reads the settings of a program again, into variables of its own.
type Reload struct {
	Flags func(f *pflag.FlagSet)
	Check func(s *Surroundings) error
	Takes []string // the flags that can change while the program runs
	// Take applies those that have changed. With an error it has changed nothing.
	Take func(c *Changes) error
}

// Changes are what a reload finds changed, by flag.
type Changes struct {
	flags   map[string]change
	content []string
	kept    map[string]string
}

type change struct{ was, is, kind string }

// Flag reports whether a flag has another value.
func (c *Changes) Flag(name string) bool {
	_, changed := c.flags[name]
	return changed
}

// Content reports that what a flag refers to has changed, whatever its value.
func (c *Changes) Content(name string) { c.content = append(c.content, name) }

// Keep reports that the earlier value of a flag stays in force until a restart, and why.
func (c *Changes) Keep(name, why string) { c.kept[name] = why }

// Reloaded is what a reload has done.
type Reloaded struct {
	File    string    `json:"file,omitempty"`
	Taken   []Setting `json:"taken"`
	Restart []Setting `json:"restart"` // the earlier values stay in force until a restart
}

// Setting is one that has changed.
type Setting = control.SettingChange
