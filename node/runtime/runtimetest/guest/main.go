// Command guest is what runs inside the containers of tests: one static binary with the few things that a shell would do.
//
// Usage: guest VERB ARGS…; the verbs are below. It owns nothing; data passes from its arguments to its output and exit code.
package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

func main() {
	args := os.Args[1:]
	if len(args) == 0 {
		args = []string{"serve", "8080"}
	}
	if err := do(args[0], args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "guest:", err)
		os.Exit(1)
	}
}

func do(verb string, args []string) error {
	switch verb {
	case "serve": // serve PORT: HTTP with /, /healthz (fails once /tmp/sick is there), /env/NAME, /file/PATH
		return serve(args[0])
	case "sleep":
		forever()
	case "exit":
		code, err := strconv.Atoi(args[0])
		if err != nil {
			return err
		}
		os.Exit(code)
	case "term": // term CODE: makes /tmp/listening, then exits with CODE on SIGTERM
		c := make(chan os.Signal, 1)
		signal.Notify(c, syscall.SIGTERM)
		fmt.Println("ready")
		if err := os.WriteFile("/tmp/listening", nil, 0o644); err != nil {
			return err
		}
		<-c
		fmt.Println("terminating")
		return do("exit", args)
	case "stubborn": // ignores SIGTERM
		signal.Ignore(syscall.SIGTERM)
		fmt.Println("ready")
		forever()
	case "echo":
		fmt.Println(strings.Join(args, " "))
	case "err":
		fmt.Fprintln(os.Stderr, strings.Join(args, " "))
	case "lines": // lines N BYTES: N lines of BYTES bytes
		return lines(args[0], args[1])
	case "cat":
		return cat(args)
	case "write": // write PATH TEXT
		return os.WriteFile(args[0], []byte(args[1]), 0o644)
	case "ls":
		return ls(args[0])
	case "stat": // mode, uid, gid
		return stat(args[0])
	case "env":
		fmt.Println(os.Getenv(args[0]))
	case "id":
		g, err := os.Getgroups()
		fmt.Println(os.Getuid(), os.Getgid(), g)
		return err
	case "host":
		n, err := os.Hostname()
		fmt.Println(n)
		return err
	case "ttysize":
		ws, err := unix.IoctlGetWinsize(0, unix.TIOCGWINSZ)
		if err == nil {
			fmt.Println(ws.Row, ws.Col)
		}
		return err
	case "eat": // eat MIB: touches memory
		return eat(args[0])
	case "get": // get URL
		return get(args[0])
	case "listen": // listen PORT: TCP echo
		return listen(args[0])
	case "mkdir-sick":
		return os.WriteFile("/tmp/sick", nil, 0o644)
	case "caps":
		b, err := os.ReadFile("/proc/self/status")
		for _, l := range strings.Split(string(b), "\n") {
			if strings.HasPrefix(l, "CapEff") || strings.HasPrefix(l, "Seccomp:") || strings.HasPrefix(l, "NoNewPrivs") {
				fmt.Println(strings.Join(strings.Fields(l), " "))
			}
		}
		return err
	default:
		return fmt.Errorf("unknown verb %q", verb)
	}
	return nil
}

func serve(port string) error {
	mux := http.NewServeMux()
	host, _ := os.Hostname()
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintf(w, "hello from %s\n", host) })
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) {
		if _, err := os.Stat("/tmp/sick"); err == nil {
			http.Error(w, "sick", http.StatusInternalServerError)
		}
	})
	mux.HandleFunc("/env/", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, os.Getenv(strings.TrimPrefix(r.URL.Path, "/env/")))
	})
	mux.HandleFunc("/file/", func(w http.ResponseWriter, r *http.Request) {
		http.ServeFile(w, r, filepath.Join("/", strings.TrimPrefix(r.URL.Path, "/file")))
	})
	fmt.Println("serving on", port)
	return http.ListenAndServe(":"+port, mux)
}

func lines(n, size string) error {
	count, err := strconv.Atoi(n)
	if err != nil {
		return err
	}
	width, err := strconv.Atoi(size)
	if err != nil {
		return err
	}
	w := bufio.NewWriter(os.Stdout)
	for i := range count {
		s := strconv.Itoa(i) + " "
		fmt.Fprintln(w, s+strings.Repeat("x", max(0, width-len(s))))
	}
	return w.Flush()
}

func cat(paths []string) error {
	if len(paths) == 0 {
		_, err := io.Copy(os.Stdout, os.Stdin)
		return err
	}
	for _, p := range paths {
		b, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		_, _ = os.Stdout.Write(b)
	}
	return nil
}

func ls(dir string) error {
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		fmt.Println(e.Name())
	}
	return err
}

func stat(path string) error {
	st, err := os.Stat(path)
	if err != nil {
		return err
	}
	sys, ok := st.Sys().(*syscall.Stat_t)
	if !ok {
		return fmt.Errorf("stat %s: no system data", path)
	}
	fmt.Printf("%o %d %d\n", st.Mode().Perm(), sys.Uid, sys.Gid)
	return nil
}

func eat(mib string) error {
	n, err := strconv.Atoi(mib)
	if err != nil {
		return err
	}
	var keep [][]byte
	for range n {
		b := make([]byte, 1<<20)
		for i := 0; i < len(b); i += 4096 {
			b[i] = 1
		}
		keep = append(keep, b)
	}
	fmt.Println("ate", len(keep))
	forever()
	return nil
}

func forever() {
	for {
		time.Sleep(time.Hour)
	}
}

func get(url string) error {
	c := http.Client{Timeout: 2 * time.Second}
	r, err := c.Get(url)
	if err != nil {
		return err
	}
	defer r.Body.Close()
	_, err = io.Copy(os.Stdout, r.Body)
	return err
}

func listen(port string) error {
	l, err := net.Listen("tcp", ":"+port)
	if err != nil {
		return err
	}
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer c.Close()
			_, _ = io.Copy(c, c)
		}()
	}
}
