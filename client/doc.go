// Package client speaks to the API of one of several servers: it is how agents read what is wanted and report what is.
//
// It owns the choice of the server (the one that answered last, else the next, with back-off) and the list-and-watch loop with
// its resumption. It knows objects and certificates, and none of the packages of a server: it runs on machines that have none.
//
// How data passes through: Follow lists a selection and watches it from there on, giving a Receiver the whole set and then each
// change, again after any gap; Get, Create, Update, UpdateStatus and Delete are one request each. Objects travel as
// Kubernetes' protobuf; kinds of our own, and answers that come as JSON anyway, as JSON. Errors are Kubernetes' Status errors.
package client
