package control

// Release queries a host on dspex.ctl.<host>.release to give partitions back. There is no answer: the assignments show the result.
type Release struct {
	Partitions map[int]uint64 `json:"partitions"` // partition -> epoch
	// Patient leaves alone what would delay its sessions for longer than the host's grace.
	Patient bool `json:"patient,omitempty"`
}
