package object

import (
	"time"

	corev1 "k8s.io/api/core/v1"
)

// Usage is what the containers of a pod used over a window that ended at a time. It is shared: nobody may change it.
type Usage struct {
	At         time.Time
	Window     time.Duration
	Containers map[string]corev1.ResourceList
}

// Annotations by which a pod says where its metrics are, as most of the field writes them: that it may be asked ("true"), the port (the first port
// of its containers if it is not said), the path (/metrics) and the scheme (http).
const (
	AnnotationScrape       = "prometheus.io/scrape"
	AnnotationScrapePort   = "prometheus.io/port"
	AnnotationScrapePath   = "prometheus.io/path"
	AnnotationScrapeScheme = "prometheus.io/scheme"
)

// MetricQuery names a metric that pods serve: its name, and which of its series count, in the canonical form of a label selector. The empty
// selector is all of them.
type MetricQuery struct {
	Name     string `json:"name"`
	Selector string `json:"selector,omitempty"`
}

// MetricValue is the sum of the series of a pod's metric, in thousandths, at a time. That of a counter is its rate a second over Window; that of
// a gauge is as it was at that time, and Window is zero.
type MetricValue struct {
	At     time.Time     `json:"at"`
	Window time.Duration `json:"window,omitempty"`
	Milli  int64         `json:"milli"`
}

// PodQuery is what a pod is asked for.
type PodQuery struct {
	Namespace string        `json:"namespace"`
	Name      string        `json:"name"`
	Queries   []MetricQuery `json:"queries"`
	// Perhaps are metrics that some pod of its namespace has, nobody knows which. Several pods may share the list: nobody may change it. An agent is not
	// told of it.
	Perhaps []MetricQuery `json:"-"`
}

// PodSamples is what a pod answered at a time: a sample for each query that it has series for, or why there are none.
type PodSamples struct {
	Namespace string    `json:"namespace"`
	Name      string    `json:"name"`
	At        time.Time `json:"at,omitzero"`
	Samples   []Sample  `json:"samples,omitempty"`
	Fault     string    `json:"fault,omitempty"`
}

// Sample is a sum of series of one pod: of a counter, since it began, or of a gauge.
type Sample struct {
	MetricQuery
	Counter bool    `json:"counter,omitempty"`
	Value   float64 `json:"value"`
}

// Counters is what a container, or a machine, has used at a time. Times are in milliseconds since 1970, Started is 0 if it is not known.
type Counters struct {
	At      int64 `json:"at"`
	Started int64 `json:"started,omitempty"`
	// CPU is in nanoseconds since the start.
	CPU int64 `json:"cpu"`
	// Memory is the working set in bytes.
	Memory int64 `json:"memory"`
}

// ContainerCounters are those of one container.
type ContainerCounters struct {
	Name string `json:"name"`
	Counters
}

// PodCounters are those of a pod's running containers.
type PodCounters struct {
	Namespace  string              `json:"namespace"`
	Name       string              `json:"name"`
	Containers []ContainerCounters `json:"containers"`
}

// NodeCounters is what an agent tells the leader: the machine's, nil if it cannot be measured, and its pods', in the order of namespaces and names.
type NodeCounters struct {
	Machine *Counters     `json:"machine,omitempty"`
	Pods    []PodCounters `json:"pods"`
}
