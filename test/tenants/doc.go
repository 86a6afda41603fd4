// Package tenants tests what two tenants with accounts of their own, and the operators, can do to each other. It runs a broker whose
// accounts are those of docs/operations.md, a dispatcher and a worker-host as processes, and plain NATS clients.
package tenants
