package cli

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/agnivade/levenshtein"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// farthest is how many letters a name may differ from the one that was meant.
const farthest = 2

var (
	unknownCommand = regexp.MustCompile(`^unknown command "([^"]*)" for`)
	wrongCount     = regexp.MustCompile(`^(accepts|requires) .*arg\(s\)`)
)

// WhatIsWrong reports what is wrong with a command line that no command took, and what may have been meant.
func WhatIsWrong(root *cobra.Command, args []string, err error) error {
	if own, ok := errors.AsType[*Failure](err); ok {
		return own
	}
	cmd, _, _ := root.Find(args)
	if cmd == nil {
		cmd = root
	}
	if m := unknownCommand.FindStringSubmatch(err.Error()); m != nil {
		cmd.SuggestionsMinimumDistance = farthest
		return wrong(fmt.Sprintf("unknown command %q for %q", m[1], cmd.CommandPath()), meant(cmd.SuggestionsFor(m[1])))
	}
	if wrongCount.MatchString(err.Error()) {
		return wrong(fmt.Sprintf("wrong number of arguments: must be `%s`", strings.TrimSuffix(cmd.UseLine(), " [flags]")), "")
	}
	return Usage("%v", err)
}

// FlagError reports what is wrong with a flag, and which one may have been meant.
func FlagError(cmd *cobra.Command, err error) error {
	if unknown, ok := errors.AsType[*pflag.NotExistError](err); ok && unknown.GetSpecifiedShortnames() == "" {
		return wrong("unknown flag --"+unknown.GetSpecifiedName(), meant(nearFlags(cmd, unknown.GetSpecifiedName())))
	}
	invalid, ok := errors.AsType[*pflag.InvalidValueError](err)
	if !ok {
		return err
	}
	name, got := invalid.GetFlag().Name, invalid.GetValue()
	switch invalid.GetFlag().Value.Type() {
	case "duration":
		return wrong(fmt.Sprintf("--%s must be a duration such as 500ms, 5s or 2m, got %q", name, got), "")
	case "int", "int64", "uint64":
		return wrong(fmt.Sprintf("--%s must be a whole number, got %q", name, got), "")
	case "float64":
		return wrong(fmt.Sprintf("--%s must be a number, got %q", name, got), "")
	case "bool":
		return wrong(fmt.Sprintf("--%s must be true or false, got %q", name, got), "")
	}
	return err
}

func wrong(text, hint string) error {
	f, _ := errors.AsType[*Failure](Usage("%s", text))
	f.Hint = hint
	return f
}

func meant(names []string) string {
	if len(names) == 0 {
		return ""
	}
	return "did you mean " + strings.Join(names, " or ") + "?"
}

// nearFlags are the flags of a command whose names are near to one that it does not have.
func nearFlags(cmd *cobra.Command, name string) (near []string) {
	best := farthest
	look := func(f *pflag.Flag) {
		d := levenshtein.ComputeDistance(name, f.Name)
		if f.Hidden || d > best {
			return
		}
		if d < best {
			best, near = d, nil
		}
		near = append(near, "--"+f.Name)
	}
	cmd.LocalFlags().VisitAll(look)
	cmd.InheritedFlags().VisitAll(look)
	return near
}
