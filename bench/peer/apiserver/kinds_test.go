package apiserver

// The kinds that random courses are about, with bodies that are mostly right.

type (
	doc = map[string]any
	arr = []any
)

// kind is one that random courses are about.
type kind struct {
	path, gv, name string
	// cluster tells that it lies in no namespace: courses share its list, so they look at single objects only.
	cluster bool
	// status is a body of its status, nil if it has none of its own; scale tells that it can be scaled.
	status func(d draw) doc
	scale  bool
	body   func(d draw) doc
}

func (d draw) some(of doc, key string, one int, v any) {
	if d.IntN(one) == 0 {
		of[key] = v
	}
}

func podSpec(d draw) doc {
	c := doc{"name": one(d, "c", "c", "d"), "image": one(d, "i", "j:1", "k:latest")}
	d.some(c, "env", 2, arr{doc{"name": one(d, "A", "B"), "value": one(d, "1", "2")}})
	d.some(c, "ports", 3, arr{doc{"containerPort": one(d, 80, 81), "name": one(d, "http", "x")}})
	d.some(c, "resources", 4, doc{"requests": doc{"cpu": one(d, "100m", "0.1", "1")}})
	d.some(c, "livenessProbe", 6, doc{one(d, "httpGet", "tcpSocket"): doc{"port": one[any](d, 80, "http")}, "periodSeconds": d.IntN(3)})
	d.some(c, "volumeMounts", 6, arr{doc{"name": one(d, "v", "w"), "mountPath": "/v"}})
	d.some(c, "securityContext", 8, doc{"runAsUser": d.IntN(2) * 1000, "privileged": d.IntN(2) == 0})
	out := doc{"containers": arr{c}}
	d.some(out, "volumes", 4, arr{doc{"name": one(d, "v", "v", "w"), one(d, "emptyDir", "configMap", "secret"): doc{"name": "x"}}})
	d.some(out, "nodeSelector", 8, words(d))
	d.some(out, "initContainers", 8, arr{doc{"name": one(d, "i", "c"), "image": "i", "restartPolicy": one[any](d, nil, "Always")}})
	d.some(out, "tolerations", 8, arr{doc{"key": "k", "operator": one(d, "Exists", "Equal"), "effect": one(d, "NoSchedule", "NoExecute")}})
	d.some(out, "terminationGracePeriodSeconds", 8, d.IntN(4))
	d.some(out, "priorityClassName", 12, one(d, "system-node-critical", "absent"))
	return out
}

func template(d draw) doc {
	return doc{"metadata": doc{"labels": doc{"a": one(d, "b", "b", "b", "c")}}, "spec": podSpec(d)}
}

// withPods is the specification of what makes pods of a template.
func withPods(d draw) doc {
	out := doc{"selector": doc{"matchLabels": doc{"a": "b"}}, "template": template(d)}
	d.some(out, "replicas", 2, replicas(d))
	return out
}

// replicas is never none: kube-apiserver leaves a zero out of a Scale, and then mistakes who owns it. A fixed course is about that.
func replicas(d draw) int { return 1 + d.IntN(3) }

func jobSpec(d draw) doc {
	t := template(d)
	if spec, ok := t["spec"].(doc); ok {
		spec["restartPolicy"] = one(d, "Never", "Never", "OnFailure", "Always")
	}
	out := doc{"template": t}
	d.some(out, "parallelism", 3, d.IntN(3))
	d.some(out, "completions", 3, d.IntN(3))
	d.some(out, "suspend", 4, d.IntN(2) == 0)
	d.some(out, "completionMode", 5, one(d, "Indexed", "NonIndexed"))
	d.some(out, "backoffLimit", 5, d.IntN(3))
	d.some(out, "ttlSecondsAfterFinished", 5, d.IntN(3))
	d.some(out, "podReplacementPolicy", 8, one(d, "Failed", "TerminatingOrFailed"))
	return out
}

func rules(d draw) arr {
	return arr{doc{"apiGroups": arr{one(d, "", "apps")}, "resources": arr{one(d, "pods", "deployments")}, "verbs": arr{one(d, "get", "list", "*")}}}
}

func binding(kind string) func(d draw) doc {
	return func(d draw) doc {
		out := doc{"roleRef": doc{"apiGroup": "rbac.authorization.k8s.io", "kind": one(d, kind, kind, kind, "ClusterRole"), "name": one(d, "r", "r", "s")}}
		d.some(out, "subjects", 2, arr{one(d, doc{"kind": "User", "name": "u"}, doc{"kind": "ServiceAccount", "name": "s", "namespace": "default"}, doc{"kind": "Group", "name": "g", "apiGroup": "rbac.authorization.k8s.io"})})
		return out
	}
}

func selector(d draw) doc {
	// An empty map of labels is left out: kube-apiserver takes it for a change of the specification whenever it is sent, and counts a generation.
	out := doc{}
	if l := words(d); len(l) > 0 {
		out["matchLabels"] = l
	}
	return out
}

func service(d draw) doc {
	spec := doc{"ports": arr{doc{"port": one(d, 80, 81), "targetPort": one[any](d, 80, "http")}}}
	d.some(spec, "selector", 2, doc{"a": one(d, "b", "c")})
	d.some(spec, "type", 3, one(d, "NodePort", "LoadBalancer", "ExternalName", "ClusterIP"))
	d.some(spec, "externalName", 6, "example.com")
	d.some(spec, "clusterIP", 6, one(d, "None", "10.0.0.1"))
	d.some(spec, "sessionAffinity", 6, one(d, "ClientIP", "None"))
	d.some(spec, "externalTrafficPolicy", 6, one(d, "Local", "Cluster"))
	d.some(spec, "internalTrafficPolicy", 6, one(d, "Local", "Cluster"))
	d.some(spec, "ipFamilyPolicy", 8, one(d, "SingleStack", "PreferDualStack"))
	d.some(spec, "publishNotReadyAddresses", 8, true)
	d.some(spec, "externalIPs", 8, arr{"1.2.3.4"})
	return doc{"spec": spec}
}

func autoscaler(d draw) doc {
	spec := doc{"scaleTargetRef": doc{"apiVersion": "apps/v1", "kind": "Deployment", "name": one(d, "x", "y")}, "maxReplicas": d.IntN(4)}
	d.some(spec, "minReplicas", 2, d.IntN(4))
	d.some(spec, "metrics", 2, arr{doc{"type": "Resource", "resource": doc{"name": one(d, "cpu", "memory"), "target": doc{"type": "Utilization", "averageUtilization": d.IntN(90)}}}})
	d.some(spec, "behavior", 4, doc{"scaleDown": doc{"stabilizationWindowSeconds": d.IntN(9)}})
	return doc{"spec": spec}
}

func budget(d draw) doc {
	spec := doc{"selector": selector(d)}
	d.some(spec, "minAvailable", 2, one[any](d, 1, "50%", "x"))
	d.some(spec, "maxUnavailable", 2, one[any](d, 1, "50%", -1))
	d.some(spec, "unhealthyPodEvictionPolicy", 5, one(d, "AlwaysAllow", "IfHealthyBudget"))
	return doc{"spec": spec}
}

func ingress(d draw) doc {
	path := doc{"pathType": one(d, "Prefix", "Exact"), "path": one(d, "/", "/a", "a"), "backend": doc{"service": doc{"name": "s", "port": one(d, doc{"number": 80}, doc{"name": "http"}, doc{})}}}
	rule := doc{"http": doc{"paths": arr{path}}}
	d.some(rule, "host", 2, one(d, "a.example.com", "*.example.com", "A_b"))
	spec := doc{"rules": arr{rule}}
	d.some(spec, "ingressClassName", 3, "x")
	d.some(spec, "tls", 4, arr{doc{"hosts": arr{"a.example.com"}, "secretName": "t"}})
	return doc{"spec": spec}
}

// claim draws quantities as they are written shortest: kube-apiserver stores another as it is sent and the next time in short, which counts as a change.
func claim(d draw) doc {
	spec := doc{"accessModes": arr{one(d, "ReadWriteOnce", "ReadWriteMany", "x")}, "resources": doc{"requests": doc{"storage": one(d, "1Gi", "2Gi")}}}
	d.some(spec, "storageClassName", 2, one(d, "s", ""))
	d.some(spec, "volumeMode", 4, one(d, "Block", "Filesystem"))
	d.some(spec, "selector", 5, selector(d))
	return doc{"spec": spec}
}

func volume(d draw) doc {
	spec := doc{"accessModes": arr{one(d, "ReadWriteOnce", "ReadOnlyMany")}, "capacity": doc{"storage": one(d, "1Gi", "2Gi")}, "hostPath": doc{"path": one(d, "/a", "/b")}}
	d.some(spec, "persistentVolumeReclaimPolicy", 2, one(d, "Retain", "Delete", "Recycle", "x"))
	d.some(spec, "storageClassName", 3, one(d, "s", "t"))
	return doc{"spec": spec}
}

// controlled is the status of what makes pods of a template.
func controlled(d draw) doc {
	return doc{"replicas": d.IntN(4), "observedGeneration": d.IntN(3), "readyReplicas": d.IntN(4)}
}

func condition(kind string) func(d draw) doc {
	return func(d draw) doc {
		return doc{"conditions": arr{doc{"type": kind, "status": one(d, "True", "False"), "reason": "R", "message": "m", "lastTransitionTime": "2026-01-02T03:04:05Z"}}}
	}
}

var kinds = []kind{
	{path: "/api/v1/namespaces/$ns/configmaps", gv: "v1", name: "ConfigMap", body: func(d draw) doc {
		out := doc{"data": words(d)}
		d.some(out, "immutable", 12, d.IntN(2) == 0)
		d.some(out, "binaryData", 8, doc{one(d, "b", "k"): one(d, "dg==", "x")})
		return out
	}},
	{path: "/api/v1/namespaces/$ns/secrets", gv: "v1", name: "Secret", body: func(d draw) doc {
		out := doc{"stringData": words(d)}
		d.some(out, "type", 8, one(d, "Opaque", "kubernetes.io/tls", "kubernetes.io/basic-auth"))
		return out
	}},
	{path: "/api/v1/namespaces/$ns/services", gv: "v1", name: "Service", body: service, status: func(d draw) doc {
		return doc{"loadBalancer": doc{"ingress": arr{doc{"ip": one(d, "1.2.3.4", "x")}}}}
	}},
	{path: "/api/v1/namespaces/$ns/endpoints", gv: "v1", name: "Endpoints", body: func(d draw) doc {
		return doc{"subsets": arr{doc{"addresses": arr{doc{"ip": one(d, "1.2.3.4", "1.2.3.5", "127.0.0.1")}}, "ports": arr{doc{"port": 80, "name": one(d, "", "http")}}}}}
	}},
	{path: "/apis/discovery.k8s.io/v1/namespaces/$ns/endpointslices", gv: "discovery.k8s.io/v1", name: "EndpointSlice", body: func(d draw) doc {
		out := doc{"addressType": one(d, "IPv4", "IPv4", "IPv6"), "endpoints": arr{doc{"addresses": arr{one(d, "1.2.3.4", "1.2.3.5")}, "conditions": doc{"ready": d.IntN(2) == 0}}}}
		d.some(out, "ports", 2, arr{doc{"port": 80}})
		return out
	}},
	{path: "/api/v1/namespaces/$ns/pods", gv: "v1", name: "Pod", body: func(d draw) doc { return doc{"spec": podSpec(d)} }, status: func(d draw) doc {
		out := doc{"phase": one(d, "Running", "Pending"), "podIP": one(d, "10.1.1.1", "10.1.1.2")}
		d.some(out, "conditions", 2, condition("Ready")(d)["conditions"])
		return out
	}},
	{path: "/api/v1/namespaces/$ns/serviceaccounts", gv: "v1", name: "ServiceAccount", body: func(d draw) doc {
		out := doc{}
		d.some(out, "automountServiceAccountToken", 2, d.IntN(2) == 0)
		d.some(out, "imagePullSecrets", 2, arr{doc{"name": one(d, "x", "y")}})
		d.some(out, "secrets", 2, arr{doc{"name": one(d, "x", "y")}})
		return out
	}},
	{path: "/api/v1/namespaces/$ns/persistentvolumeclaims", gv: "v1", name: "PersistentVolumeClaim", body: claim, status: func(d draw) doc {
		return doc{"phase": one(d, "Bound", "Pending"), "capacity": doc{"storage": "1Gi"}}
	}},
	{path: "/api/v1/namespaces/$ns/limitranges", gv: "v1", name: "LimitRange", body: func(d draw) doc {
		return doc{"spec": doc{"limits": arr{doc{"type": one(d, "Container", "Pod"), one(d, "default", "max", "min"): doc{"cpu": one(d, "1", "2")}}}}}
	}},
	{path: "/api/v1/namespaces/$ns/resourcequotas", gv: "v1", name: "ResourceQuota", body: func(d draw) doc {
		return doc{"spec": doc{"hard": doc{one(d, "pods", "requests.cpu", "count/secrets", "x"): one(d, "1", "2")}}}
	}, status: func(d draw) doc { return doc{"hard": doc{"pods": "1"}, "used": doc{"pods": one(d, "0", "1")}} }},
	{path: "/api/v1/namespaces/$ns/podtemplates", gv: "v1", name: "PodTemplate", body: func(d draw) doc { return doc{"template": template(d)} }},
	{path: "/api/v1/namespaces/$ns/replicationcontrollers", gv: "v1", name: "ReplicationController", scale: true, status: controlled, body: func(d draw) doc {
		out := doc{"selector": doc{"a": "b"}, "template": template(d)}
		d.some(out, "replicas", 2, replicas(d))
		return doc{"spec": out}
	}},
	{path: "/api/v1/namespaces/$ns/events", gv: "v1", name: "Event", body: func(d draw) doc {
		out := doc{"involvedObject": doc{"kind": "Pod", "name": "p", "namespace": one(d, "$ns", "$ns", "$ns", "default")}, "reason": one(d, "R", "S"), "message": "m", "type": one(d, "Normal", "Warning", "x")}
		d.some(out, "count", 3, d.IntN(4))
		return out
	}},
	{path: "/apis/apps/v1/namespaces/$ns/deployments", gv: "apps/v1", name: "Deployment", scale: true, status: controlled, body: func(d draw) doc {
		spec := withPods(d)
		d.some(spec, "strategy", 4, one(d, doc{"type": "Recreate"}, doc{"type": "RollingUpdate", "rollingUpdate": doc{"maxSurge": one[any](d, 0, "10%"), "maxUnavailable": one[any](d, 0, 1)}}))
		d.some(spec, "paused", 8, true)
		d.some(spec, "minReadySeconds", 8, d.IntN(2))
		return doc{"spec": spec}
	}},
	{path: "/apis/apps/v1/namespaces/$ns/statefulsets", gv: "apps/v1", name: "StatefulSet", scale: true, status: controlled, body: func(d draw) doc {
		spec := withPods(d)
		d.some(spec, "serviceName", 2, one(d, "s", "t"))
		d.some(spec, "podManagementPolicy", 4, one(d, "Parallel", "OrderedReady"))
		d.some(spec, "updateStrategy", 4, one(d, doc{"type": "OnDelete"}, doc{"type": "RollingUpdate", "rollingUpdate": doc{"partition": d.IntN(3)}}))
		d.some(spec, "volumeClaimTemplates", 5, arr{doc{"metadata": doc{"name": one(d, "v", "w")}, "spec": claim(d)["spec"]}})
		return doc{"spec": spec}
	}},
	{path: "/apis/apps/v1/namespaces/$ns/daemonsets", gv: "apps/v1", name: "DaemonSet", body: func(d draw) doc {
		spec := withPods(d)
		delete(spec, "replicas")
		d.some(spec, "updateStrategy", 4, one(d, doc{"type": "OnDelete"}, doc{"type": "RollingUpdate", "rollingUpdate": doc{"maxUnavailable": one[any](d, 0, 1, "10%")}}))
		return doc{"spec": spec}
	}, status: func(d draw) doc {
		return doc{"currentNumberScheduled": d.IntN(3), "desiredNumberScheduled": d.IntN(3), "numberMisscheduled": 0, "numberReady": d.IntN(3)}
	}},
	{path: "/apis/apps/v1/namespaces/$ns/replicasets", gv: "apps/v1", name: "ReplicaSet", scale: true, status: controlled, body: func(d draw) doc { return doc{"spec": withPods(d)} }},
	{path: "/apis/apps/v1/namespaces/$ns/controllerrevisions", gv: "apps/v1", name: "ControllerRevision", body: func(d draw) doc {
		return doc{"revision": d.IntN(3), "data": words(d)}
	}},
	{path: "/apis/batch/v1/namespaces/$ns/jobs", gv: "batch/v1", name: "Job", body: func(d draw) doc { return doc{"spec": jobSpec(d)} }, status: func(d draw) doc {
		return doc{"active": d.IntN(2), "succeeded": d.IntN(2), "startTime": "2026-01-02T03:04:05Z"}
	}},
	{path: "/apis/batch/v1/namespaces/$ns/cronjobs", gv: "batch/v1", name: "CronJob", body: func(d draw) doc {
		spec := doc{"schedule": one(d, "* * * * *", "@daily", "0 1 * * 7", "x"), "jobTemplate": doc{"spec": jobSpec(d)}}
		d.some(spec, "concurrencyPolicy", 3, one(d, "Allow", "Forbid", "Replace", "x"))
		d.some(spec, "timeZone", 4, one(d, "Europe/Berlin", "x/y"))
		d.some(spec, "successfulJobsHistoryLimit", 5, d.IntN(3))
		d.some(spec, "suspend", 5, true)
		return doc{"spec": spec}
	}, status: func(draw) doc { return doc{"lastScheduleTime": "2026-01-02T03:04:05Z"} }},
	{path: "/apis/autoscaling/v2/namespaces/$ns/horizontalpodautoscalers", gv: "autoscaling/v2", name: "HorizontalPodAutoscaler", body: autoscaler, status: func(d draw) doc {
		return doc{"currentReplicas": d.IntN(3), "desiredReplicas": d.IntN(3)}
	}},
	{path: "/apis/autoscaling/v1/namespaces/$ns/horizontalpodautoscalers", gv: "autoscaling/v1", name: "HorizontalPodAutoscaler", body: func(d draw) doc {
		o := autoscaler(d)
		if spec, ok := o["spec"].(doc); ok {
			delete(spec, "metrics")
			delete(spec, "behavior")
			d.some(spec, "targetCPUUtilizationPercentage", 2, d.IntN(90))
		}
		return o
	}},
	{path: "/apis/policy/v1/namespaces/$ns/poddisruptionbudgets", gv: "policy/v1", name: "PodDisruptionBudget", body: budget, status: func(d draw) doc {
		return doc{"disruptionsAllowed": d.IntN(2), "currentHealthy": 1, "desiredHealthy": 1, "expectedPods": 1}
	}},
	{path: "/apis/networking.k8s.io/v1/namespaces/$ns/ingresses", gv: "networking.k8s.io/v1", name: "Ingress", body: ingress, status: func(d draw) doc {
		return doc{"loadBalancer": doc{"ingress": arr{doc{"ip": one(d, "1.2.3.4", "x")}}}}
	}},
	{path: "/apis/networking.k8s.io/v1/namespaces/$ns/networkpolicies", gv: "networking.k8s.io/v1", name: "NetworkPolicy", body: func(d draw) doc {
		spec := doc{"podSelector": selector(d), "policyTypes": arr{one(d, "Ingress", "Egress")}}
		d.some(spec, "ingress", 3, arr{doc{"ports": arr{doc{"port": one[any](d, 80, "http")}}, "from": arr{doc{"ipBlock": doc{"cidr": one(d, "10.0.0.0/8", "x")}}}}})
		return doc{"spec": spec}
	}},
	{path: "/apis/rbac.authorization.k8s.io/v1/namespaces/$ns/roles", gv: "rbac.authorization.k8s.io/v1", name: "Role", body: func(d draw) doc { return doc{"rules": rules(d)} }},
	{path: "/apis/rbac.authorization.k8s.io/v1/namespaces/$ns/rolebindings", gv: "rbac.authorization.k8s.io/v1", name: "RoleBinding", body: binding("Role")},
	{path: "/apis/coordination.k8s.io/v1/namespaces/$ns/leases", gv: "coordination.k8s.io/v1", name: "Lease", body: func(d draw) doc {
		return doc{"spec": doc{"holderIdentity": one(d, "x", "y"), "leaseDurationSeconds": 1 + d.IntN(3)}}
	}},
	{path: "/apis/storage.k8s.io/v1/namespaces/$ns/csistoragecapacities", gv: "storage.k8s.io/v1", name: "CSIStorageCapacity", body: func(d draw) doc {
		return doc{"storageClassName": one(d, "s", "s", ""), "capacity": one(d, "1Gi", "2Gi")}
	}},
	{path: "/api/v1/namespaces", gv: "v1", name: "Namespace", cluster: true, body: func(d draw) doc {
		out := doc{}
		d.some(out, "spec", 4, doc{"finalizers": arr{one(d, "kubernetes", "example.com/x")}})
		return out
	}, status: condition("X")},
	{path: "/api/v1/nodes", gv: "v1", name: "Node", cluster: true, body: func(d draw) doc {
		spec := doc{}
		d.some(spec, "unschedulable", 2, true)
		d.some(spec, "taints", 3, arr{doc{"key": "k", "effect": one(d, "NoSchedule", "x")}})
		d.some(spec, "podCIDR", 4, one(d, "10.1.0.0/24", "10.2.0.0/24"))
		return doc{"spec": spec}
		// Its status is left out: agents report labels with it, so ours adds them and takes none away.
	}},
	{path: "/api/v1/persistentvolumes", gv: "v1", name: "PersistentVolume", cluster: true, body: volume, status: func(d draw) doc { return doc{"phase": one(d, "Bound", "Released")} }},
	{path: "/apis/storage.k8s.io/v1/storageclasses", gv: "storage.k8s.io/v1", name: "StorageClass", cluster: true, body: func(d draw) doc {
		out := doc{"provisioner": one(d, "p", "p", "q")}
		d.some(out, "reclaimPolicy", 3, one(d, "Retain", "Delete", "x"))
		d.some(out, "volumeBindingMode", 3, one(d, "Immediate", "WaitForFirstConsumer", "x"))
		d.some(out, "parameters", 3, words(d))
		d.some(out, "allowVolumeExpansion", 3, true)
		return out
	}},
	{path: "/apis/scheduling.k8s.io/v1/priorityclasses", gv: "scheduling.k8s.io/v1", name: "PriorityClass", cluster: true, body: func(d draw) doc {
		out := doc{"value": one(d, 1, 1, 2, 2000000000)}
		d.some(out, "description", 3, one(d, "x", "y"))
		d.some(out, "preemptionPolicy", 3, one(d, "Never", "PreemptLowerPriority", "x"))
		return out
	}},
	{path: "/apis/rbac.authorization.k8s.io/v1/clusterroles", gv: "rbac.authorization.k8s.io/v1", name: "ClusterRole", cluster: true, body: func(d draw) doc {
		out := doc{"rules": rules(d)}
		d.some(out, "aggregationRule", 6, doc{"clusterRoleSelectors": arr{doc{"matchLabels": doc{"x": "y"}}}})
		return out
	}},
	{path: "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", gv: "rbac.authorization.k8s.io/v1", name: "ClusterRoleBinding", cluster: true, body: binding("ClusterRole")},
	{path: "/apis/networking.k8s.io/v1/ingressclasses", gv: "networking.k8s.io/v1", name: "IngressClass", cluster: true, body: func(d draw) doc {
		return doc{"spec": doc{"controller": one(d, "example.com/c", "example.com/c", "x")}}
	}},
	{path: "/apis/node.k8s.io/v1/runtimeclasses", gv: "node.k8s.io/v1", name: "RuntimeClass", cluster: true, body: func(d draw) doc {
		return doc{"handler": one(d, "h", "h", "i", "A_")}
	}},
	{path: "/apis/storage.k8s.io/v1/csidrivers", gv: "storage.k8s.io/v1", name: "CSIDriver", cluster: true, body: func(d draw) doc {
		spec := doc{}
		d.some(spec, "attachRequired", 2, d.IntN(2) == 0)
		d.some(spec, "volumeLifecycleModes", 3, arr{one(d, "Persistent", "Ephemeral", "x")})
		return doc{"spec": spec}
	}},
	{path: "/apis/certificates.k8s.io/v1/certificatesigningrequests", gv: "certificates.k8s.io/v1", name: "CertificateSigningRequest", cluster: true, body: func(d draw) doc {
		return doc{"spec": doc{"request": "eA==", "signerName": "example.com/s", "usages": arr{"client auth"}}}
	}},
}
