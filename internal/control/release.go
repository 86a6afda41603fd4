package control

// Release asks a host on dspex.ctl.<host>.release to give partitions back. Nobody answers: the assignments tell.
type Release struct {
	Partitions map[int]uint64 `json:"partitions"` // partition -> epoch
	// Patient leaves alone what would hold its sessions up for longer than the host's grace.
	Patient bool `json:"patient,omitempty"`
}
