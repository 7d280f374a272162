// Package guestbook is the example that `make run` deploys: a web front end (web), a data store (store) and their
// manifests (deploy). It uses nothing of reconcile's code: it is what a user would write.
package guestbook
