// Package config reads the settings of all programs from one file, from the environment and from presets, into flags.
//
// A flag wins over its variable, a variable over the file, the file over the preset that pool_mode names, a preset over the default.
package config
