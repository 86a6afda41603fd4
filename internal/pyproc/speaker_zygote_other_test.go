//go:build !linux

package pyproc

func zygoteMain() { panic("there are no zygotes here") }
