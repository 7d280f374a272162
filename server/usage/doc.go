// Package usage collects what the pods and nodes of the cluster use, for autoscalers and for `kubectl top`.
//
// It owns the last measurements, in memory only: they are never committed, and a new leader begins anew. It knows no store, no controller and no
// HTTP: it is given the nodes, and a function that asks a node's agent.
//
// How data passes through: every 15 s the leader asks each agent for its counters (object.NodeCounters); two samples of a counter
// make a rate over the time between them; what was measured is a Table, which nobody changes any more, and which the sequencer lends to the
// controllers and the API serves. Other servers ask the leader for its Table when they need one. The rules, such as what a container that has
// just started counts for, are those of Kubernetes' metrics-server.
//
// What pods tell of themselves (object.AnnotationScrape) comes the same way beside it, by the Scraper, as Metrics: only the metrics that some
// autoscaler goes by are asked for, by the agent of the pod's node.
package usage
