// Package sandbox tries to break the levels of the sandbox, as a module of a user in a real worker of a real worker-host would. A test for
// each level tries to steal each secret that the level claims to protect. On a machine without support for a level it checks that the level
// is refused.
package sandbox
