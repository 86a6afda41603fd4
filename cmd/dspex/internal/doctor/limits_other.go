//go:build !unix

package doctor

func (d *doctor) limits() {}
