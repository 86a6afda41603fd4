//go:build !linux && !darwin

package doctor

import "errors"

func (d *doctor) limits() {}

func roomOf(string) (int64, error) { return 0, errors.ErrUnsupported }
