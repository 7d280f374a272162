// Package volume prepares what a pod's containers mount: emptyDir, ConfigMap, Secret, downward API, projected and hostPath
// volumes, and the files /etc/hosts, /etc/hostname and /etc/resolv.conf.
//
// It owns PODDIR/volumes and PODDIR/etc. Secret, projected and downward API volumes are a tmpfs each, so that no secret reaches a disk; the
// mounts go with the pod's folder (runtime.RemoveTree). It knows no server: ConfigMaps and Secrets come from a Getter, declared here. It
// removes nothing while a mount is below it.
//
// How data passes through: a pod's volumes become folders, whose files are replaced all at once through the ..data link, and
// a container's volumeMounts become mounts for the runtime.
package volume
