package main

import (
	"encoding/json"
	"net/netip"
	"testing"
	"time"

	"reconcile/proxy/model"
)

// TestProxyShowJSON: scripts find each frontend with its backends, and what happens where there are none.
func TestProxyShowJSON(t *testing.T) {
	web := model.Frontend{Addr: netip.MustParseAddr("10.96.0.7"), Proto: model.TCP, Port: 80}
	void := model.Frontend{Addr: netip.MustParseAddr("10.96.0.8"), Proto: model.UDP, Port: 53}
	got, err := json.Marshal(shownOf("why", model.State{
		void: {Frontend: void, Attributes: model.Attributes{Empty: model.Drop}},
		web:  {Frontend: web, Attributes: model.Attributes{Affinity: time.Minute}, Backends: []model.Backend{netip.MustParseAddrPort("10.244.0.3:8080")}},
	}))
	const want = `{"kernel":"why","services":[{"frontend":"10.96.0.7:80/TCP","masquerade":"off-cluster","affinity":"1m0s","backends":["10.244.0.3:8080"]},` +
		`{"frontend":"10.96.0.8:53/UDP","masquerade":"off-cluster","empty":"drop","backends":[]}]}`
	if err != nil || string(got) != want {
		t.Errorf("got  %s\nwant %s\nerr %v", got, want, err)
	}
	if got, err := json.Marshal(shownOf("why", nil)); err != nil || string(got) != `{"kernel":"why","services":[]}` {
		t.Errorf("of nothing: %s, %v", got, err)
	}
}
