package commitgen

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Source chooses a number in [0, n). *rand.Rand of math/rand/v2 is one.
type Source interface{ IntN(n int) int }

// Commit is one commit: what it says, and the whole tree after it, by path.
type Commit struct {
	Message string
	Files   map[string]string
}

// Repo is a repository that changes at random. Make one with New.
type Repo struct {
	src  Source
	apps map[string]*app
	made int
}

// app is one application: a Deployment, and perhaps a Service, a ConfigMap and a Secret.
type app struct {
	name, folder    string
	replicas, image int
	strategy, cpu   int
	port            int
	config, secret  int
	service         bool
}

// The most applications that a repository holds, and the most replicas of one.
const (
	maxApps     = 8
	maxReplicas = 12
)

// New is an empty repository.
func New(src Source) *Repo { return &Repo{src: src, apps: map[string]*app{}} }

// Next makes a commit of one to three changes. No commit removes so much that a prune guard would stop it.
func (r *Repo) Next() Commit {
	var said []string
	removed := false
	for range 1 + r.src.IntN(3) {
		names := slices.Sorted(maps.Keys(r.apps))
		switch n := r.src.IntN(10); {
		case len(names) == 0 || n < 3 && len(names) < maxApps:
			said = append(said, r.add())
		case n == 3 && !removed && len(names) > 3:
			name := names[r.src.IntN(len(names))]
			delete(r.apps, name)
			removed = true
			said = append(said, "remove "+name)
		default:
			said = append(said, r.change(r.apps[names[r.src.IntN(len(names))]]))
		}
	}
	return Commit{Message: strings.Join(said, ", "), Files: r.tree()}
}

func (r *Repo) add() string {
	r.made++
	a := &app{name: fmt.Sprintf("app%d", r.made), folder: ".", replicas: r.src.IntN(maxReplicas + 1), image: 1, port: 8000 + r.src.IntN(3),
		strategy: r.src.IntN(3), cpu: r.src.IntN(2), service: r.src.IntN(2) == 0, config: r.src.IntN(2), secret: r.src.IntN(2)}
	r.apps[a.name] = a
	return "add " + a.name
}

// change does one thing to an application.
func (r *Repo) change(a *app) string {
	switch r.src.IntN(9) {
	case 0, 1:
		a.replicas = r.src.IntN(maxReplicas + 1)
		return fmt.Sprintf("scale %s to %d", a.name, a.replicas)
	case 2, 3:
		a.image++
		return fmt.Sprintf("%s: image v%d", a.name, a.image)
	case 4:
		a.strategy = (a.strategy + 1) % 3
		return a.name + ": another strategy"
	case 5:
		a.service = !a.service
		return a.name + ": service comes or goes"
	case 6:
		a.port = 8000 + r.src.IntN(3)
		return fmt.Sprintf("%s: port %d", a.name, a.port)
	case 7:
		a.config++
		a.secret++
		return a.name + ": configuration"
	}
	a.folder = map[string]string{".": "team", "team": "."}[a.folder]
	return "move " + a.name + " to " + a.folder
}

// tree writes all files.
func (r *Repo) tree() map[string]string {
	files := map[string]string{"always.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: always}\n"}
	for _, name := range slices.Sorted(maps.Keys(r.apps)) {
		a := r.apps[name]
		path := strings.TrimPrefix(a.folder+"/"+a.name, "./")
		files[path+".yaml"] = a.deployment()
		if a.service {
			files[path+".yaml"] += "---\n" + a.serviceYAML()
		}
		if a.config > 0 {
			files[path+"-config.yaml"] = fmt.Sprintf("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: %s}\ndata: {version: %q}\n", a.name, fmt.Sprint(a.config))
		}
		if a.secret > 0 {
			files[path+"-secret.json"] = a.secretJSON()
		}
	}
	return files
}

func (a *app) deployment() string {
	strategy := []string{"", "  strategy: {type: Recreate}\n", "  strategy: {rollingUpdate: {maxSurge: 1, maxUnavailable: 0}}\n"}[a.strategy]
	return fmt.Sprintf(`apiVersion: apps/v1
kind: Deployment
metadata:
  name: %[1]s
spec:
  replicas: %[2]d
%[3]s  selector: {matchLabels: {app: %[1]s}}
  template:
    metadata: {labels: {app: %[1]s}}
    spec:
      containers:
        - name: main
          image: %[1]s:v%[4]d
          ports: [{containerPort: %[5]d}]
          resources: {requests: {cpu: %[6]s, memory: 16Mi}}
`, a.name, a.replicas, strategy, a.image, a.port, []string{"10m", "250m"}[a.cpu])
}

func (a *app) serviceYAML() string {
	return fmt.Sprintf("apiVersion: v1\nkind: Service\nmetadata: {name: %[1]s}\nspec:\n  selector: {app: %[1]s}\n  ports: [{port: 80, targetPort: %[2]d}]\n", a.name, a.port)
}

func (a *app) secretJSON() string {
	b, err := json.MarshalIndent(map[string]any{
		"apiVersion": "v1", "kind": "Secret", "metadata": map[string]any{"name": a.name}, "stringData": map[string]any{"token": fmt.Sprintf("value-%d", a.secret)},
	}, "", "  ")
	if err != nil {
		// A map of strings always encodes.
		panic(err)
	}
	return string(b) + "\n"
}
