package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode"
)

// Names are the files that are read from the working directory if none is named.
var Names = []string{"dspex.yaml", "dspex.yml", "dspex.toml"}

// maxSize bounds a file.
const maxSize = 1 << 20

// Setting is the value of one flag in a file.
type Setting struct {
	Key  string // as the file spells it
	Flag string
	Text string // as the flag reads it
	At   Place
}

// File is the content of a file.
type File struct {
	Path     string // "": there is none
	Settings []Setting
	Warnings []string
	counts   []string         // flags that Set has set from it
	inline   map[string]value // of flags whose content the file has as a map
}

func (p Problem) Error() string {
	return fmt.Sprintf("%s:%d:%d: %s", p.Path, p.At.Line, p.At.Column, p.Text)
}

// Find returns the path of the file: the one that is named, or one of Names in dir; "" if there is none.
func Find(named, dir string) (string, error) {
	if named != "" {
		return named, nil
	}
	var found []string
	for _, name := range Names {
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
			found = append(found, filepath.Join(dir, name))
		} else if !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
	}
	switch len(found) {
	case 0:
		return "", nil
	case 1:
		return found[0], nil
	}
	return "", fmt.Errorf("found %s: keep one, or name it with --config", strings.Join(found, " and "))
}

// Read reads a file and reports everything that is wrong with it. What is right with it is in the result then, too.
func Read(path string) (*File, error) {
	if path == "" {
		return &File{}, nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return &File{Path: path}, err
	}
	return Parse(path, text)
}

// Parse is Read for the text of a file. What it ends in reports what it is: .toml, else YAML, which JSON is too.
func Parse(path string, text []byte) (*File, error) {
	if len(text) > maxSize {
		return &File{Path: path}, fmt.Errorf("%s must have at most %d bytes, got %d", path, maxSize, len(text))
	}
	parse := parseYAML
	if strings.EqualFold(filepath.Ext(path), ".toml") {
		parse = parseTOML
	}
	top, err := parse(path, text)
	r := &reader{file: &File{Path: path, inline: map[string]value{}}, seen: map[string]Place{}, wrong: []error{err}}
	for _, e := range top {
		r.entry(e)
	}
	return r.file, errors.Join(r.wrong...)
}

type kind int

// reader turns entries into settings.
type reader struct {
	file  *File
	seen  map[string]Place // by flag
	wrong []error
}

func (r *reader) no(at Place, format string, args ...any) {
	r.wrong = append(r.wrong, Problem{r.file.Path, at, fmt.Sprintf(format, args...)})
}

func (r *reader) entry(e entry) {
	if slices.Contains(sections, e.key) {
		if e.value.kind != isMap {
			r.no(e.value.at, "%s must be a map, got %s", e.key, e.value.describe())
			return
		}
		for _, below := range e.value.entries {
			below.key = e.key + "." + below.key
			r.setting(below)
		}
		return
	}
	r.setting(e)
}

func (r *reader) setting(e entry) {
	flag, ok := r.flagOf(e)
	if !ok || e.value.kind == isNull {
		return
	}
	if first, twice := r.seen[flag]; twice {
		r.no(e.at, "%s must be set once, got it also in line %d", e.key, first.Line)
		return
	}
	r.seen[flag] = e.at
	text, err := textOf(flag, e.value)
	if err == nil && text != "" {
		err = judge(flag, text)
	}
	if e.value.kind == isMap {
		r.file.inline[flag] = e.value
	}
	if err != nil {
		at := e.value.at
		if kindOf(flag) == "weights" {
			at = r.file.innermost(Setting{Flag: flag, At: at}, err.Error())
		}
		r.no(at, "%s %v", e.key, err)
		return
	}
	r.file.Settings = append(r.file.Settings, Setting{Key: e.key, Flag: flag, Text: text, At: e.at})
}

// flagOf is the flag that a key sets.
func (r *reader) flagOf(e entry) (string, bool) {
	if flag, is := aliases[e.key]; is {
		return flag, true
	}
	if flag, is := old[e.key]; is {
		r.file.Warnings = append(r.file.Warnings, fmt.Sprintf("%s:%d: %s is an old name: use %s", r.file.Path, e.at.Line, e.key, strings.ReplaceAll(flag, "-", "_")))
		return flag, true
	}
	flag := strings.ReplaceAll(e.key, "_", "-")
	switch {
	case e.key == "password":
		r.no(e.at, "password must not be in a file of settings: use password_file, or $NATS_PASSWORD")
		return "", false
	case known[flag] && !strings.Contains(e.key, "-"):
		return flag, true
	}
	text := fmt.Sprintf("unknown key %s", e.key)
	if meant := near(e.key); meant != "" {
		text += ": did you mean " + meant + "?"
	}
	r.no(e.at, "%s", text)
	return "", false
}

// textOf is a value as the flag reads it.
func textOf(flag string, v value) (string, error) {
	kind := kindOf(flag)
	switch {
	case v.kind == isMap && slices.Contains(inline, flag):
		b, err := json.Marshal(v.plain())
		return string(b), err
	case v.kind == isMap && kind == "weights":
		return pairs(v)
	case v.kind == isMap:
		return "", fmt.Errorf("must be a single value, got a map")
	case v.kind == isList && kind == "strings":
		texts := make([]string, len(v.list))
		for i, one := range v.list {
			if one.kind == isList || one.kind == isMap || one.kind == isNull {
				return "", fmt.Errorf("must be a list of texts, got one with %s", one.describe())
			}
			if strings.ContainsAny(one.text, ",\"\n") {
				return "", fmt.Errorf(`must be a list of texts without commas, quotes and line breaks, got %q`, one.text)
			}
			texts[i] = one.text
		}
		return strings.Join(texts, ","), nil
	case v.kind == isList:
		return "", fmt.Errorf("must be a single value, got a list")
	case kind == "duration" && v.kind == isNumber: // as the Elixir pool has them
		return asDuration(v.text + "ms")
	case kind == "duration":
		return asDuration(v.text)
	case kind == "int" && v.kind != isNumber, kind == "float" && v.kind != isNumber:
		return "", fmt.Errorf("must be a number, got %s", v.describe())
	case kind == "" && v.kind != isBool:
		return "", fmt.Errorf("must be true or false, got %s", v.describe())
	}
	return v.text, nil
}

// innermost is the place below a setting that a text names most of the way to; else that of the setting.
func (f *File) innermost(s Setting, text string) Place {
	words := strings.FieldsFunc(text, func(r rune) bool { return r != '_' && r != '-' && !unicode.IsLetter(r) && !unicode.IsDigit(r) })
	at, most := s.At, 0
	var look func(v value, named int)
	look = func(v value, named int) {
		for _, e := range v.entries {
			n := named
			if slices.Contains(words, e.key) {
				n++
			}
			if n > named && n > most {
				at, most = e.at, n
			}
			look(e.value, n)
		}
	}
	look(f.inline[s.Flag], 0)
	return at
}

// pairs is a map of single values as NAME=VALUE,NAME=VALUE.
func pairs(v value) (string, error) {
	texts := make([]string, len(v.entries))
	for i, e := range v.entries {
		if e.value.kind == isList || e.value.kind == isMap || e.value.kind == isNull || strings.ContainsAny(e.key+e.value.text, ",=") {
			return "", fmt.Errorf("must be a map of tenants to whole numbers, got %s: %s", e.key, e.value.describe())
		}
		texts[i] = e.key + "=" + e.value.text
	}
	return strings.Join(texts, ","), nil
}

func asDuration(text string) (string, error) {
	d, err := time.ParseDuration(text)
	if err != nil {
		return "", fmt.Errorf("must be milliseconds or a duration such as 500ms, 5s or 2m, got %q", text)
	}
	return d.String(), nil
}

// plain is the value as encoding/json writes it.
func (v value) plain() any {
	switch v.kind {
	case isNull:
		return nil
	case isNumber:
		return json.Number(v.text)
	case isBool:
		return v.text == "true"
	case isList:
		out := make([]any, len(v.list))
		for i, one := range v.list {
			out[i] = one.plain()
		}
		return out
	case isMap:
		out := map[string]any{}
		for _, e := range v.entries {
			out[e.key] = e.value.plain()
		}
		return out
	}
	return v.text
}
