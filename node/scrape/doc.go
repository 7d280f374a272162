// Package scrape asks pods for metrics of their own, in the text format of Prometheus.
//
// It owns the limits of such a question: how long it may take, how many pods are asked at once, how much is read and kept. It knows no cluster and no
// autoscaler: it is given a pod, which says by annotations where to ask (object.AnnotationScrape and its like), and the names that are wanted.
//
// How data passes through: the lines of wanted series are picked out of the answer while it is read, so that a large answer takes no memory; they
// are parsed, those that a query's selector matches are summed, and the sum is a sample. Which series a name stands for is prometheus-adapter's
// rule: NAME itself as a gauge, or else NAME_total or NAME_seconds_total as a counter.
package scrape
