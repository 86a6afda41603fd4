// Package jobs says what a job is: ids, subjects, headers, the request body, the reply body, the durable records, the error
// categories and codes, and the one pure function that turns a failure into a decision (Settle).
//
// It does no input or output, owns no clock and knows neither NATS nor Python. The prose is contract/job.md.
package jobs
