package api

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"net/http/httptest"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"

	"reconcile/api/table"
	"reconcile/object"
	"reconcile/sequencer"
)

// TestTableIsThatOfMarshal makes Tables of random objects of every kind and expects the bytes that json.Marshal makes of a metav1.Table.
func TestTableIsThatOfMarshal(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	s, err := New(Config{Store: &many{}, Writer: (*sequencer.Sequencer)(nil), Log: slog.New(slog.DiscardHandler), Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	text := rapid.OneOf(rapid.StringMatching(`[a-z]{1,8}`), rapid.String(), rapid.SampledFrom([]string{`"`, `\`, "<", ">", "&", "\n", "\x7f", "é", "\u2028", "\xff"}))
	rapid.Check(t, func(t *rapid.T) {
		k := rapid.SampledFrom(object.Served()).Draw(t, "kind")
		var items []object.Object
		for range rapid.IntRange(0, 4).Draw(t, "objects") {
			o := k.Stored().New()
			o.SetName(text.Draw(t, "name"))
			o.SetNamespace(text.Draw(t, "namespace"))
			o.SetResourceVersion(rapid.StringMatching(`[0-9]{6}`).Draw(t, "rev"))
			o.SetLabels(map[string]string{text.Draw(t, "label"): text.Draw(t, "value")})
			o.SetCreationTimestamp(metav1.NewTime(now.Add(-time.Duration(rapid.IntRange(0, 1e6).Draw(t, "age")) * time.Second)))
			items = append(items, o)
		}
		include := rapid.SampledFrom([]string{"", "None", "Metadata", "Object"}).Draw(t, "includeObject")
		version := rapid.SampledFrom([]string{"v1", "v1beta1"}).Draw(t, "version")
		headers := rapid.Bool().Draw(t, "headers")
		r := httptest.NewRequest("GET", "/?includeObject="+include, nil)
		m := listMeta{rev: "7", next: text.Draw(t, "continue")}
		parts, err := s.tableRows(k, accepted{media: mediaJSON, shape: shapeTable, version: version}, items, m, r, headers, fleeting)
		if err != nil {
			t.Fatal(err)
		}
		want := metav1.Table{TypeMeta: metav1.TypeMeta{APIVersion: "meta.k8s.io/" + version, Kind: "Table"}, ListMeta: m.meta(), Rows: []metav1.TableRow{}}
		if headers {
			want.ColumnDefinitions = table.For(k.Resource).Definitions()
		}
		for _, o := range items {
			row := metav1.TableRow{Cells: table.For(k.Resource).Row(o, now)}
			if o.GetName() == "" {
				row.Cells = make([]any, len(row.Cells))
			}
			switch include {
			case "None":
			case "Object":
				row.Object.Raw, err = s.enc.bytes(o, k, encodeJSON, fleeting)
			default:
				p := partial(o, version)
				p.ManagedFields = nil
				row.Object.Raw, err = json.Marshal(p)
			}
			if err != nil {
				t.Fatal(err)
			}
			want.Rows = append(want.Rows, row)
		}
		b, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		if got := bytes.Join(parts, nil); !bytes.Equal(got, b) {
			t.Fatalf("a Table is\n%s\nwant\n%s", got, b)
		}
	})
}
