package table

import (
	"fmt"
	"time"

	"reconcile/object"
)

var commits = Printer{
	Columns: []Column{
		nameColumn,
		text("Phase", "How far the machines have followed the commit."),
		text("Current", "Objects that are as wanted, of all objects of the commit."),
		text("Changes", "Objects created, changed and deleted."),
		text("Author", "Who wrote the commit."),
		text("Subject", "First line of the commit's message."),
		ageColumn,
		wide(text("Source", "Where the commit came from.")),
		wide(text("Message", "Why it waits or has failed.")),
	},
	Row: func(o object.Object, now time.Time) []any {
		c := o.(*object.Commit)
		return []any{
			c.Name, c.Status.Phase, fmt.Sprintf("%d/%d", c.Status.Current, c.Status.Total),
			fmt.Sprintf("+%d ~%d -%d", c.Spec.Created, c.Spec.Changed, c.Spec.Deleted),
			c.Spec.Author, c.Spec.Subject, ageOf(c, now), c.Spec.Source, orNone(c.Status.Message),
		}
	},
}
