// Package modes runs one suite in each test mode: what a program sees of dspex does not depend on what stands behind it.
package modes
