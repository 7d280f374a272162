package volume

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// DNS is what pods are told of the cluster's name service.
type DNS struct {
	Server, Domain string
}

// Etc writes the pod's /etc/hosts, /etc/hostname and /etc/resolv.conf to DIR/etc.
func (p Pod) Etc(d DNS, hostname string) error {
	dir := filepath.Join(p.Dir, "etc")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	host, err := os.ReadFile("/etc/resolv.conf")
	if err != nil && !os.IsNotExist(err) {
		return err
	}
	hosts := Hosts(p.Pod, p.IP, hostname, d.Domain)
	if p.Pod.Spec.HostNetwork {
		if b, err := os.ReadFile("/etc/hosts"); err == nil {
			hosts = append(b, aliases(p.Pod)...)
		}
	}
	for name, text := range map[string][]byte{"hosts": hosts, "hostname": []byte(hostname + "\n"), "resolv.conf": ResolvConf(p.Pod, d, host)} {
		path := filepath.Join(dir, name)
		if b, err := os.ReadFile(path); err == nil && bytes.Equal(b, text) {
			continue
		}
		// In place: containers have the file itself mounted.
		if err := os.WriteFile(path, text, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// Hosts is a pod's /etc/hosts.
func Hosts(pod *corev1.Pod, ip, hostname, domain string) []byte {
	var b bytes.Buffer
	b.WriteString("# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n")
	if ip != "" {
		if pod.Spec.Subdomain != "" {
			fmt.Fprintf(&b, "%s\t%s.%s.%s.svc.%s\t%s\n", ip, hostname, pod.Spec.Subdomain, pod.Namespace, domain, hostname)
		} else {
			fmt.Fprintf(&b, "%s\t%s\n", ip, hostname)
		}
	}
	b.Write(aliases(pod))
	return b.Bytes()
}

func aliases(pod *corev1.Pod) []byte {
	if len(pod.Spec.HostAliases) == 0 {
		return nil
	}
	b := bytes.NewBufferString("\n# Entries added by HostAliases.\n")
	for _, a := range pod.Spec.HostAliases {
		fmt.Fprintf(b, "%s\t%s\n", a.IP, strings.Join(a.Hostnames, "\t"))
	}
	return b.Bytes()
}

// ResolvConf is a pod's /etc/resolv.conf for its dnsPolicy and dnsConfig; host is the machine's own file.
func ResolvConf(pod *corev1.Pod, d DNS, host []byte) []byte {
	servers, search, options := parseResolv(host)
	policy := pod.Spec.DNSPolicy
	if policy == "" {
		policy = corev1.DNSClusterFirst
	}
	if policy == corev1.DNSClusterFirst && pod.Spec.HostNetwork {
		policy = corev1.DNSDefault
	}
	switch policy {
	case corev1.DNSNone:
		servers, search, options = nil, nil, nil
	case corev1.DNSClusterFirst, corev1.DNSClusterFirstWithHostNet:
		servers, options = []string{d.Server}, []string{"ndots:5"}
		search = append([]string{pod.Namespace + ".svc." + d.Domain, "svc." + d.Domain, d.Domain}, search...)
	}
	if c := pod.Spec.DNSConfig; c != nil {
		servers, search = append(servers, c.Nameservers...), append(search, c.Searches...)
		for _, o := range c.Options {
			text := o.Name
			if o.Value != nil {
				text += ":" + *o.Value
			}
			options = slices.DeleteFunc(options, func(x string) bool { n, _, _ := strings.Cut(x, ":"); return n == o.Name })
			options = append(options, text)
		}
	}
	var b bytes.Buffer
	if len(search) > 0 {
		fmt.Fprintf(&b, "search %s\n", strings.Join(unique(search), " "))
	}
	for _, s := range unique(servers) {
		fmt.Fprintf(&b, "nameserver %s\n", s)
	}
	if len(options) > 0 {
		fmt.Fprintf(&b, "options %s\n", strings.Join(options, " "))
	}
	return b.Bytes()
}

func unique(in []string) []string {
	var out []string
	for _, s := range in {
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

func parseResolv(b []byte) (servers, search, options []string) {
	for sc := bufio.NewScanner(bytes.NewReader(b)); sc.Scan(); {
		f := strings.Fields(sc.Text())
		if len(f) < 2 {
			continue
		}
		switch f[0] {
		case "nameserver":
			servers = append(servers, f[1])
		case "search":
			search = f[1:]
		case "options":
			options = f[1:]
		}
	}
	return servers, search, options
}
