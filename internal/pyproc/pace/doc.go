// Package pace decides when things of a pool happen: when a worker gets a PING and counts as hung, when it is replaced, and how soon
// another one is started after a death. It is given time as values and starts nothing.
package pace
