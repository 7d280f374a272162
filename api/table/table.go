// Package table prints objects as rows, with the columns that kubectl's users know from Kubernetes.
//
// It owns the columns and the words in their cells: one file a kind. It is pure: the time is an argument, and objects are only
// read. It knows no HTTP; api puts the cells into a meta.k8s.io Table.
//
// How data passes through: For gives a kind's Printer; its Columns head the table, its Row turns an object into cells, one for
// each column.
package table

import (
	"strconv"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"

	"reconcile/object"
)

// Column is one column. Wide ones are shown by -o wide only.
type Column struct {
	Name        string
	Type        string
	Format      string
	Description string
	Wide        bool
}

// Printer prints the objects of one kind.
type Printer struct {
	Columns []Column
	// Row returns as many cells as there are columns. It does not change the object. now is the time against which ages are told.
	Row func(o object.Object, now time.Time) []any
}

// Definitions are the columns as meta.k8s.io/v1 wants them. The caller owns the slice.
func (p Printer) Definitions() []metav1.TableColumnDefinition {
	out := make([]metav1.TableColumnDefinition, len(p.Columns))
	for i, c := range p.Columns {
		out[i] = metav1.TableColumnDefinition{Name: c.Name, Type: c.Type, Format: c.Format, Description: c.Description}
		if c.Wide {
			out[i].Priority = 1
		}
	}
	return out
}

// For returns the printer of a resource: its own, or one that shows name and age.
func For(resource string) Printer {
	for _, group := range []map[string]Printer{printers, workloadPrinters, clusterPrinters, storagePrinters, flowPrinters} {
		if p, ok := group[resource]; ok {
			return p
		}
	}
	return plain
}

// printers is the table of printers with a file of their own. It is never changed.
var printers = map[string]Printer{
	"pods":           pods,
	"nodes":          nodes,
	"namespaces":     namespaces,
	"services":       services,
	"endpoints":      endpoints,
	"configmaps":     configMaps,
	"secrets":        secrets,
	"events":         events,
	"deployments":    deployments,
	"replicasets":    replicaSets,
	"endpointslices": endpointSlices,
	"leases":         leases,
	"commits":        commits,
}

var plain = Printer{
	Columns: []Column{nameColumn, ageColumn},
	Row:     func(o object.Object, now time.Time) []any { return []any{o.GetName(), ageOf(o, now)} },
}

var (
	nameColumn = Column{Name: "Name", Type: "string", Format: "name", Description: "Name of the object, unique within its namespace."}
	ageColumn  = Column{Name: "Age", Type: "string", Description: "Time since the object was created."}
)

func text(name, description string) Column {
	return Column{Name: name, Type: "string", Description: description}
}

func count(name, description string) Column {
	return Column{Name: name, Type: "integer", Description: description}
}

func wide(c Column) Column {
	c.Wide = true
	return c
}

const (
	none    = "<none>"
	unknown = "<unknown>"
)

// age is the time since t as kubectl prints it ("5m12s").
func age(t, now time.Time) string {
	if t.IsZero() {
		return unknown
	}
	return duration.HumanDuration(now.Sub(t))
}

func ageOf(o object.Object, now time.Time) string { return age(o.GetCreationTimestamp().Time, now) }

func orNone(s string) string {
	if s == "" {
		return none
	}
	return s
}

// selectorText prints a label selector, "<none>" for the empty one.
func selectorText(sel *metav1.LabelSelector) string {
	if sel == nil {
		return none
	}
	return orNone(metav1.FormatLabelSelector(sel))
}

// firstOf joins at most n words and tells how many more there are.
func firstOf(words []string, n int, joint string) string {
	if len(words) <= n {
		return strings.Join(words, joint)
	}
	return strings.Join(words[:n], joint) + " + " + strconv.Itoa(len(words)-n) + " more..."
}
