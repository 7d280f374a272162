package controller

import (
	"fmt"
	"maps"
	"math"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"

	"reconcile/object"
)

// overload is how much more than its share an endpoint may have to bear for its zone to have hints (Kubernetes' topology aware routing).
const overload = 0.2

// sharesZones tells whether a service asks by its annotation that zones share its endpoints in proportion to their processors. It goes before
// trafficDistribution, and its older name before its newer one.
func sharesZones(svc *corev1.Service) bool {
	mode, ok := svc.Annotations[corev1.DeprecatedAnnotationTopologyAwareHints]
	if !ok {
		mode = svc.Annotations[corev1.AnnotationTopologyMode]
	}
	return mode == "Auto" || mode == "auto"
}

// zoneFacts are what of a node counts for the shares of zones: nothing of one that is not ready or of the control plane.
type zoneFacts struct {
	counts bool
	zone   string
	cpu    int64 // thousandths
}

func zoneFactsOf(o object.Object) zoneFacts {
	n, ok := o.(*corev1.Node)
	if !ok || nodeReady(n) != corev1.ConditionTrue {
		return zoneFacts{}
	}
	for _, role := range []string{"node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master"} {
		if _, excluded := n.Labels[role]; excluded {
			return zoneFacts{}
		}
	}
	return zoneFacts{true, n.Labels[corev1.LabelTopologyZone], n.Status.Allocatable.Cpu().MilliValue()}
}

// zoneShare is how many endpoints a zone gets.
type zoneShare struct {
	zone    string
	least   int
	most    int
	desired float64
}

// shares divides endpoints among zones; an empty list comes with why they cannot be.
func shares(v View, endpoints int) (out []zoneShare, why string) {
	cpu, total := map[string]int64{}, int64(0)
	for o := range v.List("nodes", "") {
		f := zoneFactsOf(o)
		if f.counts && (f.zone == "" || f.cpu == 0) {
			cpu = nil
			break
		}
		if f.counts {
			cpu[f.zone] += f.cpu
			total += f.cpu
		}
	}
	if len(cpu) < 2 {
		return nil, "Insufficient Node information: allocatable CPU or zone not specified on one or more nodes"
	}
	if len(cpu) > endpoints {
		return nil, fmt.Sprintf("Insufficient number of endpoints (%d endpoints, %d zones)", endpoints, len(cpu))
	}
	sum := 0
	for _, zone := range slices.Sorted(maps.Keys(cpu)) {
		desired := float64(cpu[zone]) / float64(total) * float64(endpoints)
		least := int(math.Ceil(desired * (1 / (1 + overload))))
		out = append(out, zoneShare{zone: zone, least: least, desired: math.Max(desired, float64(least))})
		sum += least
	}
	if sum > endpoints {
		return nil, fmt.Sprintf("Unable to allocate minimum required endpoints to each zone without exceeding overload threshold (%d endpoints, %d zones)", endpoints, len(cpu))
	}
	for i := range out {
		out[i].most = out[i].least + endpoints - sum
	}
	return out, ""
}

// shareZones gives the ready endpoints of a service's slices of one address type their hints. had are the slices as they are: one whose endpoints
// do not change keeps its hints while they leave every zone its least, so that few slices are written. It returns what is to be told.
func shareZones(v View, svc *corev1.Service, list []*discoveryv1.EndpointSlice, had map[string]*discoveryv1.EndpointSlice) (told []Event) {
	if len(list) == 0 {
		return nil
	}
	tell := func(kind, reason, message string) {
		told = append(told, Event{Regarding: svc, Type: kind, Reason: reason, Message: fmt.Sprintf("%s, addressType: %s", message, list[0].AddressType), Component: "endpoint-slice-controller"})
	}
	none := func(why string) []Event {
		for _, s := range list {
			for i := range s.Endpoints {
				s.Endpoints[i].Hints = nil
			}
		}
		tell(corev1.EventTypeWarning, "TopologyAwareHintsDisabled", why)
		return told
	}
	ready := 0
	for _, s := range list {
		for _, e := range s.Endpoints {
			if *e.Conditions.Ready {
				ready++
			}
		}
	}
	want, why := shares(v, ready)
	if why != "" {
		return none(why)
	}
	given, hinted := map[string]int{}, false
	var changed []*discoveryv1.EndpointSlice
	for _, s := range list {
		old := had[s.Name]
		hinted = hinted || hasHints(old)
		if kept := keptHints(s, old, given, want); kept != nil {
			for zone, n := range kept {
				given[zone] += n
			}
			continue
		}
		changed = append(changed, s)
	}
	for _, s := range changed {
		for i := range s.Endpoints {
			e := &s.Endpoints[i]
			switch {
			case !*e.Conditions.Ready:
			case e.Zone == nil:
				return none("One or more endpoints do not have a zone specified")
			default:
				given[*e.Zone]++
				e.Hints = &discoveryv1.EndpointHints{ForZones: []discoveryv1.ForZone{{Name: *e.Zone}}}
			}
		}
	}
	give, take := exchange(want, given)
	lend(changed, give, take)
	if !hinted {
		tell(corev1.EventTypeNormal, "TopologyAwareHintsEnabled", "Topology Aware Hints has been enabled")
	}
	return told
}

func hasHints(s *discoveryv1.EndpointSlice) bool {
	return s != nil && slices.ContainsFunc(s.Endpoints, func(e discoveryv1.Endpoint) bool { return e.Hints != nil })
}

// keptHints gives s the hints of old if both have the same endpoints, all that are ready have hints, and these are for zones with shares of which
// none gets more than its most. It returns their number by zone, nil if they cannot be kept.
func keptHints(s, old *discoveryv1.EndpointSlice, given map[string]int, want []zoneShare) map[string]int {
	if old == nil || len(old.Endpoints) != len(s.Endpoints) {
		return nil
	}
	kept := map[string]int{}
	for i := range s.Endpoints {
		was := old.Endpoints[i]
		was.Hints = s.Endpoints[i].Hints
		if !equality.Semantic.DeepEqual(was, s.Endpoints[i]) {
			return nil
		}
		if !*was.Conditions.Ready {
			continue
		}
		if h := old.Endpoints[i].Hints; h == nil || len(h.ForZones) == 0 {
			return nil
		}
		for _, z := range old.Endpoints[i].Hints.ForZones {
			kept[z.Name]++
		}
	}
	for zone, n := range kept {
		i := slices.IndexFunc(want, func(x zoneShare) bool { return x.zone == zone })
		if i < 0 || n+given[zone] > want[i].most {
			return nil
		}
	}
	for i := range s.Endpoints {
		s.Endpoints[i].Hints = old.Endpoints[i].Hints
	}
	return kept
}

// exchange tells how many endpoints zones give to others, and get from others.
func exchange(want []zoneShare, given map[string]int) (give, take map[string]int) {
	give, take = map[string]int{}, map[string]int{}
	surplus, lack := map[string]float64{}, map[string]float64{}
	for _, w := range want {
		switch n := float64(given[w.zone]); {
		case n > w.desired:
			surplus[w.zone] = n - w.desired
		case n < w.desired:
			lack[w.zone] = w.desired - n
		}
	}
	for {
		from, more := largest(surplus)
		to, less := largest(lack)
		if from == "" || to == "" || more < 1 && less < 1 || more < 0.5 || less < 0.5 {
			return give, take
		}
		give[from]++
		surplus[from]--
		take[to]++
		lack[to]--
	}
}

// largest is the zone with the largest number above zero, of equal ones the first by name.
func largest(zones map[string]float64) (zone string, n float64) {
	for _, z := range slices.Sorted(maps.Keys(zones)) {
		if zones[z] > n {
			zone, n = z, zones[z]
		}
	}
	return zone, n
}

// lend turns hints of endpoints of zones that give to zones that take.
func lend(list []*discoveryv1.EndpointSlice, give, take map[string]int) {
	for _, s := range list {
		for i := range s.Endpoints {
			e := &s.Endpoints[i]
			if !*e.Conditions.Ready || give[*e.Zone] == 0 {
				continue
			}
			for _, to := range slices.Sorted(maps.Keys(take)) {
				if take[to] == 0 {
					continue
				}
				e.Hints = &discoveryv1.EndpointHints{ForZones: []discoveryv1.ForZone{{Name: to}}}
				give[*e.Zone]--
				take[to]--
				break
			}
		}
	}
}
