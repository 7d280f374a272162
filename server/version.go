package server

import (
	"runtime"

	"k8s.io/apimachinery/pkg/version"
)

// The Kubernetes version whose API is served: that of the k8s.io modules in go.mod.
const (
	kubernetesMajor = "1"
	kubernetesMinor = "36"
	kubernetesPatch = "3"
)

// kubernetesVersion is the answer of /version. own is the program's version, which stands behind a plus sign.
func kubernetesVersion(own string) version.Info {
	return version.Info{
		Major:        kubernetesMajor,
		Minor:        kubernetesMinor,
		GitVersion:   "v" + kubernetesMajor + "." + kubernetesMinor + "." + kubernetesPatch + "+reconcile." + own,
		GitTreeState: "clean",
		GoVersion:    runtime.Version(),
		Compiler:     runtime.Compiler,
		Platform:     runtime.GOOS + "/" + runtime.GOARCH,
	}
}
