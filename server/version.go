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
	// kubernetesBefore is the minor version whose API it still has.
	kubernetesBefore = "35"
)

// KubernetesVersion is the Kubernetes version that a server, or the agent of a node, stands for, as a semantic version. own is the program's version,
// which stands behind a plus sign.
func KubernetesVersion(own string) string {
	return "v" + kubernetesMajor + "." + kubernetesMinor + "." + kubernetesPatch + "+reconcile." + own
}

// kubernetesVersion is the answer of /version. own is the program's version.
func kubernetesVersion(own string) version.Info {
	return version.Info{
		Major: kubernetesMajor, Minor: kubernetesMinor,
		EmulationMajor: kubernetesMajor, EmulationMinor: kubernetesMinor,
		MinCompatibilityMajor: kubernetesMajor, MinCompatibilityMinor: kubernetesBefore,
		GitVersion:   KubernetesVersion(own),
		GitTreeState: "clean",
		GoVersion:    runtime.Version(),
		Compiler:     runtime.Compiler,
		Platform:     runtime.GOOS + "/" + runtime.GOARCH,
	}
}
