//go:build !linux && !darwin

package devserver

// freeOn cannot measure the room on a disk here: a broker that stores nothing is started again and again, until it does.
func freeOn(string) (int64, error) { return roomAgain, nil }
