package admission

import "time"

const (
	callersPause = 2 * time.Second // a caller that was not seen for so long, or twice as long, was idle
	mostCallers  = 65_536          // in each of two generations
)

// callers has who has called lately, in two generations.
type callers struct {
	young, old map[string]struct{}
	began      time.Time
}

// seen reports whether the caller has called lately, and records this call.
func (c *callers) seen(now time.Time, caller string) bool {
	if now.Sub(c.began) > callersPause || len(c.young) >= mostCallers {
		if now.Sub(c.began) > 2*callersPause {
			c.young = nil
		}
		c.young, c.old, c.began = map[string]struct{}{}, c.young, now
	}
	_, young := c.young[caller]
	_, old := c.old[caller]
	c.young[caller] = struct{}{}
	return young || old
}
