package config

import (
	"strconv"
)

// Place is a line and a column of a file, from 1.
type Place struct{ Line, Column int }

// Problem is one thing that is wrong with a file.
type Problem struct {
	Path string
	At   Place
	Text string
}

// entry is a key of a file with its value: text, a list of texts, or entries of its own.
type entry struct {
	key   string
	at    Place // of the key
	value value
}

type value struct {
	at      Place
	kind    kind
	text    string
	list    []value
	entries []entry
}

const (
	isNull kind = iota
	isText
	isNumber
	isBool
	isList
	isMap
)

func (v value) describe() string {
	switch v.kind {
	case isNull:
		return "nothing"
	case isList:
		return "a list"
	case isMap:
		return "a map"
	}
	return strconv.Quote(v.text)
}

func itoa(n int) string { return strconv.Itoa(n) }
