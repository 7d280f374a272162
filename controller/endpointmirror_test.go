package controller

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestWhatIsNotMirrored: addresses that are none, and those beyond a thousand of one subset, are left out and told in Kubernetes' words.
func TestWhatIsNotMirrored(t *testing.T) {
	ep := &corev1.Endpoints{ObjectMeta: metav1.ObjectMeta{Namespace: "d", Name: "x"}, Subsets: []corev1.EndpointSubset{{Addresses: []corev1.EndpointAddress{{IP: "no address"}}}, {}}}
	for i := range 1002 {
		ep.Subsets[1].Addresses = append(ep.Subsets[1].Addresses, corev1.EndpointAddress{IP: fmt.Sprintf("10.0.%d.%d", i/250, i%250)})
	}
	ep.Subsets[1].NotReadyAddresses = []corev1.EndpointAddress{{IP: "10.1.0.0"}}
	slices, events := mirrorSlices(ep)
	n := 0
	for _, s := range slices {
		n += len(s.Endpoints)
	}
	if n != 1000 {
		t.Errorf("%d addresses are mirrored, want 1,000", n)
	}
	want := []string{"InvalidIPAddress: Skipped 1 invalid IP addresses when mirroring to EndpointSlices",
		"TooManyAddressesToMirror: A max of 1000 addresses can be mirrored to EndpointSlices per Endpoints subset. 4 addresses were skipped"}
	if len(events) != len(want) {
		t.Fatalf("events %v", events)
	}
	for i, e := range events {
		if got := e.Reason + ": " + e.Message; got != want[i] {
			t.Errorf("%s, want %s", got, want[i])
		}
	}
}
