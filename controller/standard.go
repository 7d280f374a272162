package controller

// standard lists the controllers in the order of their work within a Settle: what others build on comes first, what counts and
// tells comes last, so that each runs as seldom as possible.
func standard(cfg Config) []Controller {
	return []Controller{
		namespaces{cluster: cfg.ClusterID},
		namespaceDefaults{cluster: cfg.ClusterID, rootCA: cfg.RootCA},
		tokenSecrets{signer: cfg.Tokens, rootCA: cfg.RootCA},
		priorityClasses{cluster: cfg.ClusterID},
		nodeIPAM{pods: cfg.PodRange},
		nodeTTL{},
		nodeLifecycle{},
		nodeEviction{},
		garbage{},
		adoption{},
		autoscalers{},
		deployments{},
		cronJobs{},
		replicaSets{admit: cfg.AdmitPod},
		replicationControllers{admit: cfg.AdmitPod},
		jobs{admit: cfg.AdmitPod},
		statefulSets{admit: cfg.AdmitPod, admitClaim: cfg.AdmitClaim},
		daemonSets{admit: cfg.AdmitPod},
		ephemeralVolumes{admit: cfg.AdmitClaim},
		volumes{},
		volumeProtection{},
		scheduling{extensions: cfg.Extensions},
		endpoints{},
		endpointMirror{},
		apiService{cluster: cfg.ClusterID, services: cfg.ServiceRange},
		dnsService{cluster: cfg.ClusterID, services: cfg.ServiceRange},
		serviceCIDR{cluster: cfg.ClusterID, services: cfg.ServiceRange},
		disruption{},
		certificates{signer: cfg.Signer},
		quotas{},
		commits{},
		eventTTL{},
		podGC{},
		finishedTTL{},
	}
}
