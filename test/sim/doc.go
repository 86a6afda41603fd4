// Package sim is the proof of the promises about sessions: the whole system (broker, dispatchers, hosts, clients) in one
// testing/synctest bubble, in fake time, under seeded faults. Its history is recorded by three observers (the clients, the
// journal of executions, a tap on the broker's streams) and checked afterwards.
//
// It runs the same dispatch.Run and host.Run as the binaries. Faults strike from outside: at the network (cable), the
// broker's process and directory, and the workers; the product has no hook for them. A seed fixes the faults, not the
// interleaving of goroutines. It holds tests only.
package sim
