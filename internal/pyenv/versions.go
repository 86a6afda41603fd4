package pyenv

import (
	"strconv"
	"strings"
)

// suits reports whether a version is among those that a specifier such as ">=2.6,<4" names. It compares releases by their numbers,
// which is all that the product's pins have.
func suits(version, spec string) bool {
	for part := range strings.SplitSeq(strings.Trim(spec, "() "), ",") {
		if part = strings.TrimSpace(part); part != "" && !suitsOne(version, part) {
			return false
		}
	}
	return true
}

func suitsOne(version, spec string) bool {
	operator := spec[:len(spec)-len(strings.TrimLeft(spec, "=<>!~"))]
	wanted := strings.TrimSpace(spec[len(operator):])
	prefix, wild := strings.CutSuffix(wanted, ".*")
	order := compare(numbers(version), numbers(prefix))
	switch operator {
	case "==", "===":
		return order == 0 || wild && under(version, prefix)
	case "!=":
		return order != 0 && (!wild || !under(version, prefix))
	case ">=":
		return order >= 0
	case "<=":
		return order <= 0
	case ">":
		return order > 0
	case "<":
		return order < 0
	case "~=":
		series := prefix[:max(strings.LastIndexByte(prefix, '.'), 0)]
		return order >= 0 && (series == "" || under(version, series))
	}
	return false
}

// under reports whether the version begins with the numbers of prefix.
func under(version, prefix string) bool {
	v, p := numbers(version), numbers(prefix)
	return len(v) >= len(p) && compare(v[:len(p)], p) == 0
}

// numbers are those of a release; what follows a number in a part, as in 3.0.0b1, does not count.
func numbers(version string) []int {
	var found []int
	for part := range strings.SplitSeq(version, ".") {
		end := 0
		for end < len(part) && part[end] >= '0' && part[end] <= '9' {
			end++
		}
		n, err := strconv.Atoi(part[:end])
		if err != nil {
			break
		}
		found = append(found, n)
	}
	return found
}

func compare(a, b []int) int {
	at := func(v []int, i int) int {
		if i < len(v) {
			return v[i]
		}
		return 0
	}
	for i := range max(len(a), len(b)) {
		if d := at(a, i) - at(b, i); d != 0 {
			return d
		}
	}
	return 0
}
