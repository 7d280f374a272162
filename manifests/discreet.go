package manifests

import (
	stderrors "errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"strings"

	"cuelang.org/go/cue/errors"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Values of Secrets are shown nowhere: not in a finding either, which a push prints, CI logs keep and chats quote. Where a message
// could hold one, it says what was expected and at which place, and the reader has the file.

// discreet is a message about a field of an object, without the value if that may be one of a Secret's. Such are data and stringData,
// as a whole and below, and the copy of both that kubectl leaves in an annotation.
func discreet(resource string, f fault) string {
	if resource != "secrets" || f.valueless {
		return f.msg
	}
	for _, top := range []string{"data", "stringData"} {
		switch {
		case f.path == top:
			return top + ": the value does not fit: want a map of names to strings (values of Secrets are not shown)"
		case below(f.path, top):
			return f.path + ": the value does not fit: want a string, in base64 below data, plain below stringData (values of Secrets are not shown)"
		}
	}
	if strings.Contains(f.path, corev1.LastAppliedConfigAnnotation) {
		return f.path + ": the value does not fit (values of Secrets are not shown)"
	}
	return f.msg
}

// valueless tells whether the words of a rule hold no value, or none but a key that stands in the path too.
func valueless(e *field.Error) bool {
	name, ok := e.BadValue.(string)
	return e.Type == field.ErrorTypeRequired || e.Type == field.ErrorTypeTooLong || ok && name != "" && strings.HasSuffix(e.Field, "["+name+"]")
}

// violation is the message about a broken policy. A policy may bring any of a Secret's values together with any other field of it, so
// of a Secret only the place is told.
func violation(resource string, v *evalViolation) string {
	msg, at := v.Message, v.Path+": "
	if v.Path == "" {
		at = ""
	}
	if resource == "secrets" {
		msg = "breaks the policy (values of Secrets are not shown)"
	}
	return at + msg
}

// makesSecret finds what looks like a Secret: its kind, quoted or behind `kind:`, a definition that is called so, or its own field.
var makesSecret = regexp.MustCompile(`Secret\b|stringData`)

// secretive tells whether a tree's CUE seems to make a Secret. Then any value of any package may be on its way into one, through hidden
// fields, templates and imports. Rules speak of Secrets without making any, and so do generated definitions.
func secretive(tree fs.FS) bool {
	found := false
	// What cannot be read is reported by whoever needs it.
	_ = fs.WalkDir(tree, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() && (name == "policy" || name == "cue.mod") {
			return fs.SkipDir
		}
		if d.IsDir() || path.Base(name) == requestName {
			return nil
		}
		content, err := fs.ReadFile(tree, name)
		if err == nil && makesSecret.Match(content) && !definitions.Match(content) {
			found = true
			return fs.SkipAll
		}
		return nil
	})
	return found
}

// definitions finds what `reconcile schema` and `cue get` print: a comment of a whole line that says so, before the package clause.
var definitions = regexp.MustCompile(`^(//.*\n|\n)*// ([Cc]ode g|G)enerated .*DO NOT EDIT\.\n`)

// words are an error's own and those of its causes. If the tree is secretive they are without the values that CUE found in conflict.
func (e *eval) words(err errors.Error) string {
	if !e.secretive {
		return message(err)
	}
	var parts []string
	hidden := false
	for cause := error(err); cause != nil; {
		var said errors.Error
		if !stderrors.As(cause, &said) {
			hidden = true
			break
		}
		cause = stderrors.Unwrap(said)
		format, args := said.Msg()
		text, hid := withoutValues(format, args)
		if text = strings.TrimSuffix(text, ":"); text != "" && (len(parts) == 0 || parts[len(parts)-1] != text) {
			parts = append(parts, text)
		}
		hidden = hidden || hid
	}
	msg := strings.Join(parts, ": ")
	switch {
	case msg == "":
		return "the value does not fit (values are not shown where CUE makes a Secret)"
	case hidden:
		return msg + " (values are not shown where CUE makes a Secret)"
	}
	return msg
}

// named are formats of CUE's errors, with the number of their first arguments that are names or kinds of tokens, and no values.
var named = map[string]int{
	"cannot find package %q":                                1,
	"imported and not used: %s":                             1,
	"imported and not used: %s as %s":                       2,
	"error in call to %s":                                   1,
	"too many arguments in call to %v (have %d, want %d)":   3,
	"not enough arguments in call to %v (have %d, want %d)": 3,
	"missing ',' in %s":                                     1,
	"expected %s, found '%s' %s":                            2,
}

var (
	verb = regexp.MustCompile(`%[-+# 0-9.]*[a-zA-Z]`)
	// typeName is what CUE prints for a type; a string would stand in quotes.
	typeName = regexp.MustCompile(`^\(?(null|bool|int|float|number|string|bytes|list|struct|_)(\|(null|bool|int|float|number|string|bytes|list|struct))*\)?$`)
)

// notFound is what the loader says about packages; it prints import paths, and no values.
var notFound = regexp.MustCompile(`^(cannot find package|package import cycle)`)

// withoutValues prints a format with those arguments that cannot hold a value, and tells whether it left any out.
func withoutValues(format string, args []any) (text string, hid bool) {
	i := -1
	text = verb.ReplaceAllStringFunc(format, func(v string) string {
		i++
		if i >= len(args) {
			return ""
		}
		_, isCount := args[i].(int)
		shown := fmt.Sprintf(v, args[i])
		if i < named[format] || isCount || typeName.MatchString(shown) || format == "%s" && notFound.MatchString(shown) {
			return shown
		}
		hid = true
		return "…"
	})
	return text, hid
}
