package control

// Reloaded is the answer of a host on dspex.ctl.<host>.reload: what it has done with its settings.
type Reloaded struct {
	Host    string          `json:"host"`
	File    string          `json:"file,omitempty"`   // of settings; none: it has none
	Taken   []SettingChange `json:"taken"`            // in force from now on
	Restart []SettingChange `json:"restart"`          // need a restart
	Faults  []string        `json:"faults,omitempty"` // what is wrong: nothing was taken over
}

// SettingChange is a setting that has changed. Values that are texts are not repeated.
type SettingChange struct {
	Key string `json:"key"`
	Was string `json:"was,omitempty"`
	Is  string `json:"is,omitempty"`
	Why string `json:"why,omitempty"`
}

// Bounds of Reloaded.
const (
	MostFaults  = 50
	LongestText = 500
)

// Bounded cuts what is longer than a reply should be.
func (r Reloaded) Bounded() Reloaded {
	cut := func(s string) string { return s[:min(len(s), LongestText)] }
	faults := r.Faults[:min(len(r.Faults), MostFaults)]
	r.Faults = nil
	for _, f := range faults {
		r.Faults = append(r.Faults, cut(f))
	}
	return r
}
