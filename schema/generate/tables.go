package main

// special are types that read JSON themselves.
var special = map[string]string{
	"Quantity":     "#Quantity",
	"IntOrString":  "#IntOrString",
	"Time":         "#Time",
	"MicroTime":    "#Time",
	"Duration":     "string",
	"FieldsV1":     "{...}",
	"RawExtension": "{...}",
}

// optional are fields that Go writes always and Kubernetes does not ask for; required those that it asks for although Go leaves
// them out when they are empty.
var (
	optional = []string{"EndpointSlice.ports", "EndpointSlice.endpoints", "NodeSelectorRequirement.values", "Endpoint.addresses", "PodOS.name",
		"LimitRangeSpec.limits", "StatefulSetSpec.serviceName", "NetworkPolicySpec.podSelector", "ClusterRole.rules", "Role.rules", "RoleRef.apiGroup",
		"PriorityClass.value", "CSIDriver.spec", "FlowSchemaSpec.matchingPrecedence"}
	required = []string{"Deployment.spec", "ReplicaSet.spec", "Pod.spec", "Service.spec", "ReplicaSetSpec.template", "DeploymentSpec.selector", "ReplicaSetSpec.selector",
		"PersistentVolume.spec", "PersistentVolumeClaim.spec", "PodTemplate.template", "ReplicationController.spec", "DaemonSet.spec", "DaemonSetSpec.selector",
		"StatefulSet.spec", "StatefulSetSpec.selector", "HorizontalPodAutoscaler.spec", "CronJob.spec", "Job.spec", "Ingress.spec", "IngressClass.spec", "IngressClassSpec.controller",
		"VolumeAttributesClass.parameters", "FlowSchema.spec", "PriorityLevelConfiguration.spec"}
)

// enums are the values of string types that Kubernetes' validation accepts.
var enums = map[string][]string{
	"AddressType":                   {"IPv4", "IPv6", "FQDN"},
	"AzureDataDiskCachingMode":      {"None", "ReadOnly", "ReadWrite"},
	"DNSPolicy":                     {"ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"},
	"DeploymentStrategyType":        {"Recreate", "RollingUpdate"},
	"HostPathType":                  {"", "DirectoryOrCreate", "Directory", "FileOrCreate", "File", "Socket", "CharDevice", "BlockDevice"},
	"IPFamily":                      {"IPv4", "IPv6"},
	"IPFamilyPolicy":                {"SingleStack", "PreferDualStack", "RequireDualStack"},
	"LabelSelectorOperator":         {"In", "NotIn", "Exists", "DoesNotExist"},
	"MountPropagationMode":          {"None", "HostToContainer", "Bidirectional"},
	"NodeSelectorOperator":          {"In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"},
	"NodeInclusionPolicy":           {"Ignore", "Honor"},
	"OSName":                        {"linux", "windows"},
	"PodFSGroupChangePolicy":        {"OnRootMismatch", "Always"},
	"PreemptionPolicy":              {"PreemptLowerPriority", "Never"},
	"ProcMountType":                 {"Default", "Unmasked"},
	"Protocol":                      {"TCP", "UDP", "SCTP"},
	"PullPolicy":                    {"Always", "Never", "IfNotPresent"},
	"RestartPolicy":                 {"Always", "OnFailure", "Never"},
	"SeccompProfileType":            {"Unconfined", "RuntimeDefault", "Localhost"},
	"ServiceAffinity":               {"ClientIP", "None"},
	"ServiceExternalTrafficPolicy":  {"Cluster", "Local"},
	"ServiceInternalTrafficPolicy":  {"Cluster", "Local"},
	"ServiceType":                   {"ClusterIP", "NodePort", "LoadBalancer", "ExternalName"},
	"TaintEffect":                   {"NoSchedule", "PreferNoSchedule", "NoExecute"},
	"TerminationMessagePolicy":      {"File", "FallbackToLogsOnError"},
	"TolerationOperator":            {"Exists", "Equal"},
	"URIScheme":                     {"HTTP", "HTTPS"},
	"UnsatisfiableConstraintAction": {"DoNotSchedule", "ScheduleAnyway"},
}
