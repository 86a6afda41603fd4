// Package echolm is a language model that only echoes: an OpenAI-compatible HTTP server for first runs without a key, for demonstrations,
// tests and benchmarks. It understands the prompts that DSPy 3.4 writes (its Chat, JSON and XML adapters, tools included) well enough to
// answer any signature with typed, parseable fields. It reports in every answer that it is an echo. What it answers is derived from the
// input alone.
//
// A [Script] makes it slow, failing or rude: for every request ([Server.SetScript], POST /control) or for those under
// /s/SCRIPT/v1 alone. Request keys that would change the answer of a real model (temperature, stop, max_tokens) are
// accepted and have no effect.
//
// It needs no network but its listener, keeps nothing on disk and neither checks nor stores keys.
package echolm
